//! Words of a text in English, Chinese and what is written like them.
//!
//! Runs of letters and digits are words, lower-cased; full-width forms count as the plain ones.
//! Chinese, Japanese and Korean writing, which has no spaces or none that help, gives pairs of
//! neighbouring characters, and a single character where it stands alone.
//!
//! # Paper
//! Nie, Gao, Zhang, Zhou, "On the use of words and n-grams for Chinese information retrieval",
//! IRAL 2000: character bigrams retrieve about as well as words, and need no dictionary.

/// Whether a character belongs to a writing that is cut into pairs.
fn is_ideographic(c: char) -> bool {
    matches!(c,
        '\u{3005}'..='\u{3007}'      // iteration mark, zero
        | '\u{3040}'..='\u{30ff}'    // Hiragana, Katakana
        | '\u{3400}'..='\u{4dbf}'    // Han, extension A
        | '\u{4e00}'..='\u{9fff}'    // Han
        | '\u{ac00}'..='\u{d7a3}'    // Hangul syllables
        | '\u{f900}'..='\u{faff}'    // Han, compatibility
        | '\u{20000}'..='\u{3ffff}'  // Han, later extensions
    )
}

/// The plain form of a full-width character of ASCII.
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        '\u{3000}' => ' ',
        other => other,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    Words,
    Pairs,
    Neither,
}

fn writing(c: char) -> Writing {
    if is_ideographic(c) {
        Writing::Pairs
    } else if c.is_alphanumeric() {
        Writing::Words
    } else {
        Writing::Neither
    }
}

/// Words and character pairs of a text, in order, repeated as they are.
pub fn tokens(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().map(narrow).collect();
    let mut tokens = Vec::new();
    for run in characters.chunk_by(|a, b| writing(*a) == writing(*b)) {
        match run
            .first()
            .map_or(Writing::Neither, |first| writing(*first))
        {
            Writing::Neither => {}
            Writing::Words => {
                tokens.push(run.iter().flat_map(|c| c.to_lowercase()).collect());
            }
            Writing::Pairs if run.len() == 1 => tokens.push(run.iter().collect()),
            Writing::Pairs => tokens.extend(run.windows(2).map(|pair| pair.iter().collect())),
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn english_gives_lower_case_words() {
        assert_eq!(
            tokens("WHITE hanging Heart T-light holder, 12 PENCILS"),
            [
                "white", "hanging", "heart", "t", "light", "holder", "12", "pencils"
            ]
        );
        assert_eq!(tokens("Crème ÉCLAIR"), ["crème", "éclair"]);
        assert!(tokens(" -- !?").is_empty());
    }

    #[test]
    fn chinese_gives_pairs_of_characters() {
        assert_eq!(tokens("红色连衣裙"), ["红色", "色连", "连衣", "衣裙"]);
        assert_eq!(tokens("红、连衣裙"), ["红", "连衣", "衣裙"]);
    }

    #[test]
    fn writings_may_be_mixed() {
        assert_eq!(
            tokens("华为Ｍate60手机 128GB"),
            ["华为", "mate60", "手机", "128gb"]
        );
    }
}

//! Refuses what makes YAML surprising, before the parser sees it.
//!
//! One pass over the text knows just enough of the grammar to tell what stands outside quotes,
//! comments and text: where a token may start. There an anchor, alias, tag or merge key is
//! refused; brackets and nested blocks are counted, since the parser is slow on deep ones; and
//! characters that the parser takes for ends of lines and editors do not are refused anywhere, so
//! that the line of a message is the line that people see.

use crate::failure::{Exit, Failure};

use super::MAX_BYTES;

/// Deepest nesting of brackets, and of lists within lists on one line.
const MAX_DEPTH: usize = 32;

/// Deepest indentation, in spaces.
const MAX_INDENT: usize = 256;

/// What is wrong, and what to do.
struct Refusal {
    line: usize,
    what: String,
    hint: &'static str,
}

/// Refuses a text with anchors, aliases, tags, merge keys, directives, several documents, a
/// byte-order mark, odd ends of lines, deep nesting or more than [`MAX_BYTES`] bytes.
pub(super) fn refuse_exotic(text: &str, origin: &str) -> Result<(), Failure> {
    let refused = refuse_size(text).and_then(|()| Scan::default().all(text));
    refused.map_err(|Refusal { line, what, hint }| {
        let message = format!("failed to read `{origin}`: {what} at line {line}");
        let failure = Failure::new(Exit::Configuration, message);
        if hint.is_empty() {
            failure
        } else {
            failure.hint(hint)
        }
    })
}

fn refuse_size(text: &str) -> Result<(), Refusal> {
    let refuse = |what: &str, hint| {
        Err(Refusal {
            line: 1,
            what: what.to_owned(),
            hint,
        })
    };
    if text.len() > MAX_BYTES {
        return refuse("more than 1 MiB of YAML", "split the pipeline");
    }
    if text.starts_with('\u{feff}') {
        return refuse("a byte-order mark", "save the file as UTF-8 without one");
    }
    Ok(())
}

/// What the scan is in the middle of when a line ends.
#[derive(Clone, Copy, Default, PartialEq)]
enum Within {
    /// Nothing: a token may start.
    #[default]
    Nothing,
    /// A quoted text.
    Quotes(char),
    /// A text without quotes: it goes on in the next line if that is indented by more than this.
    Plain(usize),
    /// A block of text (`|`, `>`): it goes on while lines are indented by more than this.
    Block(usize),
}

#[derive(Default)]
struct Scan {
    within: Within,
    /// Open brackets.
    depth: usize,
    /// 1-based.
    line: usize,
    /// Column of the innermost list or mapping that this line has begun or belongs to.
    level: usize,
    /// Column of the last text, which may turn out to be a key.
    start: usize,
}

impl Scan {
    fn all(mut self, text: &str) -> Result<(), Refusal> {
        for line in text.split('\n') {
            self.line += 1;
            self.one(line.strip_suffix('\r').unwrap_or(line))?;
        }
        Ok(())
    }

    fn refuse(&self, what: impl Into<String>, hint: &'static str) -> Result<(), Refusal> {
        Err(Refusal {
            line: self.line,
            what: what.into(),
            hint,
        })
    }

    fn one(&mut self, line: &str) -> Result<(), Refusal> {
        let is_odd = |c: char| matches!(c, '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}');
        if let Some(odd) = line.chars().find(|c| is_odd(*c)) {
            let what = format!("the character U+{:04X}", u32::from(odd));
            return self.refuse(what, "end lines with a line feed alone");
        }
        let inner = line.trim_start_matches(' ');
        let indent = line.len() - inner.len();
        if let Within::Block(parent) = self.within {
            if inner.trim().is_empty() || indent > parent {
                return Ok(());
            }
            self.within = Within::Nothing;
        }
        let in_quotes = matches!(self.within, Within::Quotes(_));
        if line.starts_with("---") && self.line > 1 || line.starts_with("...") {
            return self.refuse("a second document", "write one document in a file");
        }
        if !in_quotes && inner.starts_with('\t') && !inner.trim().is_empty() {
            return self.refuse("a tab", "indent with spaces");
        }
        if !in_quotes && line.starts_with('%') {
            return self.refuse("a directive", "remove the line");
        }
        if indent > MAX_INDENT && !in_quotes && !inner.is_empty() {
            let what = format!("an indentation of more than {MAX_INDENT} spaces");
            return self.refuse(what, "write it less nested");
        }
        if let Within::Plain(parent) = self.within {
            // An empty line ends nothing; a comment ends the text, and so does a smaller indentation.
            if inner.is_empty() {
                return Ok(());
            }
            if inner.starts_with('#') || self.depth == 0 && indent <= parent {
                self.within = Within::Nothing;
            }
        }
        self.tokens(line, indent)
    }

    /// Goes through the rest of a line that is no block of text.
    fn tokens(&mut self, line: &str, indent: usize) -> Result<(), Refusal> {
        let mut chars = line.char_indices().peekable();
        let mut before = ' ';
        self.level = indent;
        // Lists and mappings that start on this line, one within the other: `- - a`.
        let mut compact = 0;
        while let Some((column, c)) = chars.next() {
            let next = chars.peek().map(|(_, next)| *next);
            let ends_word = next.is_none_or(char::is_whitespace);
            let in_flow = self.depth > 0;
            match self.within {
                Within::Quotes('"') if c == '\\' => {
                    chars.next();
                }
                Within::Quotes('\'') if c == '\'' && next == Some('\'') => {
                    chars.next();
                }
                Within::Quotes(open) if c == open => self.within = Within::Nothing,
                Within::Quotes(_) => {}
                // The rest of its head says how it is folded.
                Within::Block(_) => return Ok(()),
                _ if c == '#' && before.is_whitespace() => {
                    // A text ends where a comment follows.
                    if matches!(self.within, Within::Plain(_)) {
                        self.within = Within::Nothing;
                    }
                    return Ok(());
                }
                Within::Plain(_) | Within::Nothing if c.is_whitespace() => {}
                Within::Plain(_) if in_flow && matches!(c, ',' | '[' | ']' | '{' | '}') => {
                    self.within = Within::Nothing;
                    self.bracket(c)?;
                }
                Within::Plain(_) => {
                    let ends_key = ends_word || in_flow && matches!(next, Some(',' | ']' | '}'));
                    if c == ':' && ends_key {
                        self.within = Within::Nothing;
                        self.ends_key();
                    }
                }
                Within::Nothing => {
                    if matches!(c, '-' | '?') && ends_word {
                        compact += 1;
                        self.level = column;
                        if compact > MAX_DEPTH {
                            return self.too_deep();
                        }
                    } else {
                        // What stands alone in a line belongs to something that began before it.
                        let parent = if column == indent {
                            indent.saturating_sub(1)
                        } else {
                            self.level
                        };
                        if c != ':' {
                            self.start = column;
                        }
                        self.token(c, &line[column + c.len_utf8()..], parent)?;
                    }
                }
            }
            before = c;
        }
        Ok(())
    }

    /// Takes in a character with which a token starts.
    fn token(&mut self, c: char, rest: &str, parent: usize) -> Result<(), Refusal> {
        let is_word = rest
            .chars()
            .next()
            .is_some_and(|next| !next.is_whitespace());
        match c {
            '[' | ']' | '{' | '}' => self.bracket(c)?,
            ',' if self.depth > 0 => {}
            ':' if !is_word || self.depth > 0 => self.ends_key(),
            '"' | '\'' => self.within = Within::Quotes(c),
            // A tag may be a lone `!`.
            '!' => return self.exotic(),
            '&' | '*' if is_word => return self.exotic(),
            '<' if is_merge(rest) => {
                return self.refuse("a merge key", "write the mapping out");
            }
            '|' | '>' if self.depth == 0 && heads_block(rest) => {
                self.within = Within::Block(parent);
            }
            _ => self.within = Within::Plain(parent),
        }
        Ok(())
    }

    /// The text before a colon was the key of a mapping that stands where it stands.
    fn ends_key(&mut self) {
        if self.depth == 0 {
            self.level = self.start;
        }
    }

    fn bracket(&mut self, c: char) -> Result<(), Refusal> {
        match c {
            '[' | '{' => self.depth += 1,
            ']' | '}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        if self.depth > MAX_DEPTH {
            return self.too_deep();
        }
        Ok(())
    }

    fn exotic(&self) -> Result<(), Refusal> {
        self.refuse(
            "an anchor, alias or tag",
            "write the value out, or quote it if it is text",
        )
    }

    fn too_deep(&self) -> Result<(), Refusal> {
        self.refuse(
            format!("brackets are nested more than {MAX_DEPTH} deep"),
            "",
        )
    }
}

/// Whether what follows a `<` makes it a merge key.
fn is_merge(rest: &str) -> bool {
    rest.strip_prefix('<')
        .is_some_and(|rest| rest.trim_start_matches(' ').starts_with(':'))
}

/// Whether what follows `|` or `>` makes it the head of a block of text.
fn heads_block(rest: &str) -> bool {
    let rest = rest.trim_start_matches(|c: char| matches!(c, '+' | '-') || c.is_ascii_digit());
    let after = rest.trim_start_matches(' ');
    after.is_empty() || after.len() < rest.len() && after.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> Option<String> {
        let refused = refuse_exotic(text, "t.yaml").err();
        refused.map(|failure| failure.message)
    }

    #[test]
    fn what_may_stand_in_text_is_left_alone() {
        for text in [
            "a: this & that, *so* !much << more\n".to_owned(),
            "a: |\n  &x *y !z [[[\n  --- # no comment\nb: 1\n".to_owned(),
            "a: > # folded\n    &x\n\n    *y\nb: 1\n".to_owned(),
            "a: |2-\n    &x\nb: >+\n  *y\n- |\n  *z\n".to_owned(),
            "a: \"one\n  two &x *y\n  three\"\nb: ' it''s\n  *x'\n".to_owned(),
            "a: one\n  &two *three\n  \"four\nb: 1\n".to_owned(),
            "# &a *b !c [[[[ \u{e9}\n- a # *b\n".to_owned(),
            "a: [1, 'x, *y', \"]\", z *w]\n".to_owned(),
            "a: x#y *z\n".to_owned(),
            format!("a: \"{}\"\n# {}\n", "[".repeat(99), "{".repeat(99)),
            "half open: '[0, 1)' # [0, 1)\n".repeat(99),
            "- - - a\n  - b\n".to_owned(),
            "a:\n  one\n  *two\n  \"three\nb: 1\n".to_owned(),
            "a:\n  - b: |\n      *x\n    c: 1\n".to_owned(),
            "a: -1\nb: - \nc: ?x\n".to_owned(),
        ] {
            assert_eq!(refusal(&text), None, "{text:?}");
        }
    }

    #[test]
    fn what_surprises_is_refused_wherever_it_hides() {
        let cases = [
            ("a: &x 1\n", "anchor", 1),
            ("a:\n  - *x\n", "anchor", 2),
            ("a: [1,*x]\n", "anchor", 1),
            ("a: {b: !c d}\n", "anchor", 1),
            ("? &x a\n", "anchor", 1),
            ("&x a: 1\n", "anchor", 1),
            ("a: ! b\n", "anchor", 1),
            // After what is quoted, over several lines.
            ("a: [\"one\n \", *x]\n", "anchor", 2),
            ("a: 'it''s\n  '\nb: *x\n", "anchor", 3),
            ("a: \"\\\"\"\nb: *x\n", "anchor", 2),
            ("a: |\n  text\nb: *x\n", "anchor", 3),
            ("a: one\n  two\nb: *x\n", "anchor", 3),
            ("a: one # \"\nb: *x\n", "anchor", 2),
            ("a: five\" disk\nb: *x\n", "anchor", 2),
            ("- - a\n  - *x\n", "anchor", 2),
            ("- a: b\n  c: *x\n", "anchor", 2),
            ("- a: |\n    text\n  c: *x\n", "anchor", 3),
            ("\"a\": b\nc: *x\n", "anchor", 2),
            ("<<: {}\n", "merge key", 1),
            ("a: {<< : {}}\n", "merge key", 1),
            ("a: 1\n--- \n", "second document", 2),
            ("a: 1\n...\n", "second document", 2),
            ("%YAML 1.1\n", "directive", 1),
            ("a: b\u{2028}c: *x\n", "U+2028", 1),
            ("a: b\rc: *x\n", "U+000D", 1),
            ("a: 'b\u{85}'\n", "U+0085", 1),
            ("\u{feff}a: 1\n", "byte-order mark", 1),
            ("a: 1\n\u{feff}b: 1\n", "U+FEFF", 2),
            ("a:\n\t- 1\n", "tab", 2),
        ];
        for (text, what, line) in cases {
            let message = refusal(text).unwrap_or_default();
            assert!(message.contains(what), "{text:?}: {message}");
            assert!(
                message.ends_with(&format!("at line {line}")),
                "{text:?}: {message}"
            );
        }
    }

    #[test]
    fn nesting_has_an_end() {
        let deep = |n: usize| format!("a: {}1{}\n", "[".repeat(n), "]".repeat(n));
        assert_eq!(refusal(&deep(MAX_DEPTH)), None);
        for text in [
            deep(MAX_DEPTH + 1),
            format!("{}\n", "{a: ".repeat(MAX_DEPTH + 1)),
            format!("{}a\n", "- ".repeat(MAX_DEPTH + 1)),
            format!("{}a\n", "? ".repeat(MAX_DEPTH + 1)),
            "a: [\n".repeat(MAX_DEPTH + 1),
        ] {
            let message = refusal(&text).unwrap();
            assert!(message.contains("nested more than 32 deep"), "{message}");
        }
        let indented = format!("a:\n{}b: 1\n", " ".repeat(MAX_INDENT + 1));
        assert!(refusal(&indented).unwrap().contains("indentation"));
    }
}

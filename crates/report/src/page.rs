//! The page: one file with everything inside.

use crate::Config;
use crate::html::Html;
use crate::section::Section;

/// The only style sheet; inline, so that the page is one file.
const STYLE: &str = include_str!("style.css");

/// The page as bytes of a file.
pub(crate) fn page(config: &Config, sections: &[Section]) -> String {
    let mut html = Html::new();
    html.element("html", &[("lang", &"en")], |html| {
        html.element("head", &[], |html| {
            html.void("meta", &[("charset", &"utf-8")]);
            html.void(
                "meta",
                &[
                    ("name", &"viewport"),
                    ("content", &"width=device-width, initial-scale=1"),
                ],
            );
            html.void(
                "meta",
                &[("name", &"color-scheme"), ("content", &"light dark")],
            );
            html.void(
                "meta",
                &[("name", &"generator"), ("content", &"Touchstone")],
            );
            html.leaf("title", &[], format!("{} · Touchstone", config.title));
            html.style_sheet(STYLE);
        });
        html.element("body", &[], |html| {
            html.leaf(
                "a",
                &[("class", &"skip"), ("href", &"#answer")],
                "To the answer",
            );
            html.element("div", &[("class", &"page")], |html| {
                contents(html, sections);
                html.element("main", &[], |html| {
                    head(html, config);
                    for section in sections {
                        draw(html, section);
                    }
                    foot(html);
                });
            });
        });
    });
    format!("<!DOCTYPE html>\n{}", html.into_string())
}

/// The mark: a dark stone with a streak of gold.
fn mark(html: &mut Html) {
    html.element(
        "svg",
        &[
            ("class", &"mark"),
            ("viewBox", &"0 0 28 28"),
            ("aria-hidden", &"true"),
        ],
        |svg| {
            svg.element(
                "rect",
                &[
                    ("class", &"stone"),
                    ("x", &"1"),
                    ("y", &"1"),
                    ("width", &"26"),
                    ("height", &"26"),
                    ("rx", &"7"),
                ],
                |_| {},
            );
            svg.element(
                "path",
                &[
                    ("class", &"streak"),
                    (
                        "d",
                        &"M7 18.5C11 17 15.5 13 20.5 8.5M9.5 21C13 19.5 17.5 16.5 21.5 13",
                    ),
                ],
                |_| {},
            );
        },
    );
}

fn head(html: &mut Html, config: &Config) {
    html.element("header", &[], |html| {
        html.element("p", &[("class", &"brand")], |html| {
            mark(html);
            html.leaf("span", &[], "Touchstone");
            html.leaf("span", &[("lang", &"zh"), ("class", &"zh")], "试金石");
        });
        html.leaf("h1", &[], &config.title);
        if !config.source.is_empty() {
            html.leaf("p", &[("class", &"source")], &config.source);
        }
    });
}

fn contents(html: &mut Html, sections: &[Section]) {
    html.element("nav", &[("aria-label", &"Contents")], |html| {
        html.element("ol", &[], |html| {
            for section in sections {
                html.element("li", &[], |html| {
                    html.leaf("a", &[("href", &format!("#{}", section.id))], section.title);
                });
            }
        });
    });
}

fn draw(html: &mut Html, section: &Section) {
    let heading = format!("{}-title", section.id);
    html.element(
        "section",
        &[("id", &section.id), ("aria-labelledby", &heading)],
        |html| {
            html.leaf("h2", &[("id", &heading)], section.title);
            if !section.guide.is_empty() {
                html.element("p", &[("class", &"guide")], |html| {
                    html.prose(&section.guide);
                });
            }
            html.piece(&section.body);
        },
    );
}

fn foot(html: &mut Html) {
    html.element("footer", &[], |html| {
        html.text(
            "Made by Touchstone from content-hashed artifacts. The same inputs give the same tables, \
             byte for byte; only costs are measured anew.",
        );
    });
}

//! Tables whose first column says what a row is, with a bar under it.

use std::fmt::Write;

use super::escape;

/// What stands in a row's first column.
pub(super) struct Name<'a> {
    /// As HTML.
    pub html: String,
    /// The class that gives the bar its colour.
    pub class: &'a str,
    /// How long the bar is, of a longest one; nothing for no bar.
    pub bar: Option<(u64, u64)>,
}

/// A table within what scrolls sideways on narrow screens.
pub(super) struct Table<'a> {
    html: &'a mut String,
    kinds: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// `caption` names it for who cannot see it. A column's title that starts with `>` is one of numbers, with `<` one that
    /// can be done without where there is little room: what it says follows from others.
    pub fn begin(html: &'a mut String, caption: &str, titles: &[&str]) -> Self {
        let caption = escape(caption);
        let _ = write!(
            html,
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{caption}\">\n<table aria-label=\"{caption}\">\n<thead><tr>"
        );
        let mut kinds = Vec::new();
        for title in titles {
            let (kind, title) = match title.split_at_checked(1) {
                Some((">", title)) => ("n", title),
                Some(("<", title)) => ("n less", title),
                _ => ("t", *title),
            };
            kinds.push(kind);
            let _ = write!(html, "<th scope=\"col\" class=\"{kind}\">{}</th>", escape(title));
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        Self { html, kinds }
    }

    /// Begins a part of rows whose first is their sum.
    pub fn sums(&mut self) {
        self.html.push_str("</tbody>\n<tbody class=\"sum\">\n");
    }

    /// A row; `cells` are texts.
    pub fn row(&mut self, name: &Name<'_>, cells: &[String]) {
        let _ = write!(self.html, "<tr><th scope=\"row\">{}", name.html);
        if let Some((part, longest)) = name.bar {
            let width = part as f64 * 100.0 / longest.max(1) as f64;
            let zero = if part == 0 { " class=\"zero\"" } else { "" };
            let _ = write!(
                self.html,
                "<span class=\"bar {}\"><i{zero} style=\"width:{width:.2}%\"></i></span>",
                name.class
            );
        }
        self.html.push_str("</th>");
        for (kind, cell) in self.kinds.iter().skip(1).zip(cells) {
            let _ = write!(self.html, "<td class=\"{kind}\">{}</td>", escape(cell));
        }
        self.html.push_str("</tr>\n");
    }

    pub fn end(self) {
        self.html.push_str("</tbody>\n</table>\n</div>\n");
    }
}

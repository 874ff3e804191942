//! Columns of text, and the few colours.

/// Whether and how text is coloured. Colour never carries meaning alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    pub(super) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(super) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(super) fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    pub(super) fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// Colours the first word of a line by what it says of an export or a run.
    pub(super) fn status(self, word: &str, text: &str) -> String {
        match word {
            "done" => self.green(text),
            "failed" | "usage" | "auth" | "locked" | "error" => self.red(text),
            "partial" | "incomplete" | "interrupted" | "superseded" => self.yellow(text),
            _ => text.to_owned(),
        }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// How a column's cells stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows of cells in columns as wide as their widest cell, two spaces between.
pub(super) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    /// A table with these headings.
    pub(super) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; `status` is the word that colours the cell equal to it or ending in it.
    pub(super) fn row(&mut self, status: &str, cells: Vec<String>) {
        self.rows.push((status.to_owned(), cells));
    }

    /// The lines, headings first, without trailing spaces.
    pub(super) fn render(&self, paint: Paint) -> String {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| {
                let cells = self.rows.iter().filter_map(|(_, row)| row.get(at)).map(|cell| width(cell));
                cells.chain([width(self.columns[at].0)]).max().unwrap_or(0)
            })
            .collect();
        let headings: Vec<String> = self.columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
        let mut text = paint.bold(self.line(&headings, &widths, str::to_owned).trim_end());
        text.push('\n');
        for (status, row) in &self.rows {
            let painted = |cell: &str| {
                if cell.trim().ends_with(status.as_str()) {
                    paint.status(status, cell)
                } else {
                    cell.to_owned()
                }
            };
            text.push_str(self.line(row, &widths, painted).trim_end());
            text.push('\n');
        }
        text
    }

    fn line(&self, row: &[String], widths: &[usize], painted: impl Fn(&str) -> String) -> String {
        let mut line = String::new();
        for ((cell, (_, align)), column) in row.iter().zip(&self.columns).zip(widths) {
            let padding = " ".repeat(column.saturating_sub(width(cell)));
            if !line.is_empty() {
                line.push_str("  ");
            }
            match align {
                Align::Left => line.extend([painted(cell), padding]),
                Align::Right => line.extend([padding, painted(cell)]),
            }
        }
        line
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table =
            Table::new(&[("stream", Align::Left), ("status", Align::Left), ("size", Align::Right)]);
        table.row("done", vec!["front-gate".to_owned(), "done".to_owned(), "12.3 MB".to_owned()]);
        table.row("failed", vec!["yard".to_owned(), "failed".to_owned(), "-".to_owned()]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        insta::assert_snapshot!(table().render(Paint(false)), @"
        stream      status     size
        front-gate  done    12.3 MB
        yard        failed        -
        ");
    }

    #[test]
    fn colour_changes_no_column() {
        let coloured = table().render(Paint(true));
        assert!(coloured.contains("\u{1b}[31mfailed\u{1b}[0m"));
        let mut plain = coloured;
        for code in ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[31m", "\u{1b}[32m"] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, table().render(Paint(false)));
    }
}

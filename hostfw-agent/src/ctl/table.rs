use std::io::{self, Write};

/// Between columns, as `calicoctl` has it.
const GAP: usize = 3;

/// A table of text with left-aligned columns.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(|text| (*text).to_owned()).collect()],
        }
    }

    /// Adds a row, with a cell for each heading. An empty cell is shown as
    /// `<none>`, so that rows can be split at blanks.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        let cells = cells
            .into_iter()
            .map(|cell| {
                if cell.is_empty() {
                    "<none>".to_owned()
                } else {
                    // A name of a file may hold anything.
                    cell.replace(char::is_control, "?")
                }
            })
            .collect();
        self.rows.push(cells);
    }

    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + GAP
            })
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}"));
            }
            writeln!(to, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["NAME", "NODE"]);
        table.row(vec!["a-long-name".to_owned(), "n".to_owned()]);
        table.row(vec!["b".to_owned(), String::new()]);
        let mut text = Vec::new();
        table.write(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "NAME          NODE\na-long-name   n\nb             <none>\n"
        );
    }
}

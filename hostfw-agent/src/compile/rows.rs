//! The rows of a generation, each kept once.

use std::collections::HashMap;

use hostfw_common::{limits::MAX_ROWS, policy::Row};

/// Gives equal rows the same number.
#[derive(Default)]
pub(super) struct Rows {
    numbers: HashMap<Row, u32>,
}

/// One more distinct row than a generation can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyRows;

impl Rows {
    /// The number of the row.
    pub(super) fn intern(&mut self, row: &Row) -> Result<u32, TooManyRows> {
        if let Some(&number) = self.numbers.get(row) {
            return Ok(number);
        }
        let number = self.numbers.len() as u32;
        if number >= MAX_ROWS {
            return Err(TooManyRows);
        }
        self.numbers.insert(*row, number);
        Ok(number)
    }

    /// All rows, by number.
    pub(super) fn into_vec(self) -> Vec<Row> {
        let mut rows = vec![Row::EMPTY; self.numbers.len()];
        for (row, number) in self.numbers {
            rows[number as usize] = row;
        }
        rows
    }
}

/// Sets or clears the bit of a rule, and keeps the summary true.
pub(super) fn put(row: &mut Row, rule: usize, bit: bool) {
    if bit {
        row.set(rule);
        return;
    }
    let word = rule / 64;
    row.words[word] &= !(1 << (rule % 64));
    if row.words[word] == 0 {
        row.summary &= !(1 << word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rows_share_a_number() {
        let mut rows = Rows::default();
        let mut row = Row::EMPTY;
        assert_eq!(rows.intern(&row), Ok(0));
        row.set(4095);
        assert_eq!(rows.intern(&row), Ok(1));
        put(&mut row, 4095, false);
        assert_eq!(rows.intern(&row), Ok(0));
        let all = rows.into_vec();
        assert_eq!(all.len(), 2);
        assert!(all[1].contains(4095) && !all[0].contains(4095));
    }

    #[test]
    fn one_row_too_many_is_refused() {
        let mut rows = Rows::default();
        let mut row = Row::EMPTY;
        for number in 0..MAX_ROWS {
            row.words[0] = number.into();
            assert_eq!(rows.intern(&row), Ok(number));
        }
        assert_eq!(rows.intern(&row), Ok(MAX_ROWS - 1));
        row.words[1] = 1;
        assert_eq!(rows.intern(&row), Err(TooManyRows));
    }

    #[test]
    fn summary_follows_the_words() {
        let mut row = Row::EMPTY;
        put(&mut row, 64, true);
        put(&mut row, 65, true);
        put(&mut row, 64, false);
        assert_eq!((row.summary, row.words[1]), (0b10, 0b10));
        put(&mut row, 65, false);
        assert_eq!(row, Row::EMPTY);
    }
}

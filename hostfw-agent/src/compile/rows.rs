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

/// Turns the bits over that `mask` has, and keeps the summary true.
pub(super) fn toggle(row: &mut Row, mask: &Row) {
    let mut words = mask.summary;
    while words != 0 {
        let word = words.trailing_zeros() as usize;
        words &= words - 1;
        row.words[word] ^= mask.words[word];
        let bit = 1 << word;
        row.summary = if row.words[word] == 0 {
            row.summary & !bit
        } else {
            row.summary | bit
        };
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
        let same = row;
        toggle(&mut row, &same);
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
        let mask = |rules: &[usize]| {
            let mut mask = Row::EMPTY;
            for &rule in rules {
                mask.set(rule);
            }
            mask
        };
        let mut row = Row::EMPTY;
        toggle(&mut row, &mask(&[64, 65, 4095]));
        assert_eq!(row, mask(&[64, 65, 4095]));
        toggle(&mut row, &mask(&[64, 4095]));
        assert_eq!((row.summary, row.words[1]), (0b10, 0b10));
        toggle(&mut row, &mask(&[0, 65]));
        assert_eq!(row, mask(&[0]));
        toggle(&mut row, &mask(&[0]));
        assert_eq!(row, Row::EMPTY);
    }
}

//! Records of classes and lists: rows of bits, and what spares reading them.

use hostfw_common::index::{
    CLASS_CLEARS, LINE_WORDS, Line, NO_RULE, RECORD_FIRST, RECORD_LINES, RECORD_WORDS,
};

use super::dimension::Difference;

/// The base rows of a list, each a whole number of lines.
pub(super) struct Bases<'a> {
    rows: [&'a [u64]; 4],
    words: usize,
    /// Words of all four together that are not 0.
    common: Vec<(usize, u64)>,
}

impl<'a> Bases<'a> {
    /// Rows of `rules` bits; words that are not there are 0.
    pub(super) fn new(rows: [&'a [u64]; 4], rules: usize) -> Self {
        let words = rules.div_ceil(64);
        let mut bases = Self {
            rows,
            words,
            common: Vec::new(),
        };
        let common = |word| {
            let all = (0..4).fold(u64::MAX, |all, row| all & bases.word(row, word));
            (word, all)
        };
        bases.common = (0..words)
            .map(common)
            .filter(|(_, all)| *all != 0)
            .collect();
        bases
    }

    fn word(&self, row: usize, word: usize) -> u64 {
        self.rows[row].get(word).copied().unwrap_or(0)
    }

    /// A word of all rows but one together.
    fn others(&self, row: usize, word: usize) -> u64 {
        let others = (0..4).filter(|&other| other != row);
        others.fold(u64::MAX, |all, other| all & self.word(other, word))
    }

    /// All rows but one together, word by word.
    pub(super) fn others_of(&self, row: usize) -> impl Iterator<Item = u64> {
        (0..self.words).map(move |word| self.others(row, word))
    }

    /// The first rule whose bit is set in all rows, or [`NO_RULE`].
    pub(super) fn first(&self) -> u32 {
        self.common
            .first()
            .map_or(NO_RULE, |&(word, all)| rule(word, all))
    }

    /// The record of the list, and its base rows behind it.
    pub(super) fn record(&self) -> Vec<Line> {
        let mut head = Line::EMPTY;
        for &(word, _) in &self.common {
            head.words[RECORD_WORDS + word / 64] |= 1 << (word % 64);
        }
        head.words[RECORD_FIRST] = self.first().into();
        let mut lines = vec![head];
        for row in 0..4 {
            lines.extend((0..self.lines()).map(|line| self.line(row, line)));
        }
        lines
    }

    /// The record of a class of one row's dimension, and behind it the lines of
    /// the class's row that have a difference.
    pub(super) fn class(&self, row: usize, difference: &Difference) -> Vec<Line> {
        let mut head = Line::EMPTY;
        let mut lines = Vec::new();
        let mut first = NO_RULE;
        for differing in difference.chunk_by(|a, b| line_of(a.0) == line_of(b.0)) {
            let number = line_of(differing[0].0);
            let mut line = self.line(row, number);
            for &(word, bits) in differing {
                let word = usize::from(word);
                if line.words[word % LINE_WORDS] & bits != 0 {
                    head.words[RECORD_FIRST] |= u64::from(CLASS_CLEARS) << 32;
                }
                line.words[word % LINE_WORDS] ^= bits;
                head.words[RECORD_WORDS + word / 64] |= 1 << (word % 64);
                let all = line.words[word % LINE_WORDS] & self.others(row, word);
                if all != 0 {
                    first = first.min(rule(word, all));
                }
            }
            head.words[RECORD_LINES] |= 1 << number;
            lines.push(line);
        }
        let differs = |word: usize| head.words[RECORD_WORDS + word / 64] >> (word % 64) & 1 == 1;
        let base = self.common.iter().find(|(word, _)| !differs(*word));
        if let Some(&(word, all)) = base {
            first = first.min(rule(word, all));
        }
        head.words[RECORD_FIRST] |= u64::from(first);
        lines.insert(0, head);
        lines
    }

    const fn lines(&self) -> usize {
        self.words.div_ceil(LINE_WORDS)
    }

    fn line(&self, row: usize, number: usize) -> Line {
        let mut line = Line::EMPTY;
        for (within, word) in line.words.iter_mut().enumerate() {
            *word = self.word(row, number * LINE_WORDS + within);
        }
        line
    }
}

const fn line_of(word: u16) -> usize {
    word as usize / LINE_WORDS
}

/// The number of the first rule that has a bit in a word.
const fn rule(word: usize, bits: u64) -> u32 {
    word as u32 * 64 + bits.trailing_zeros()
}

#[cfg(test)]
mod tests {
    use hostfw_common::index::{BASE_RECORD, Record};

    use super::*;

    /// A row with the bits of some rules.
    fn row(rules: &[usize]) -> Vec<u64> {
        let mut words = Vec::new();
        for rule in rules {
            words.resize(words.len().max(rule / 64 + 1), 0);
            words[rule / 64] |= 1 << (rule % 64);
        }
        words
    }

    fn record(lines: &[Line]) -> Record<'_> {
        Record { line: &lines[0] }
    }

    /// The bits that are turned over for these rules.
    fn difference(rules: &[usize]) -> Vec<(u16, u64)> {
        let words = row(rules);
        (0..).zip(words).filter(|(_, bits)| *bits != 0).collect()
    }

    #[test]
    fn a_list_has_the_words_that_all_base_rows_share_and_the_rows() {
        let rows = [
            &[1, 130, 600][..],
            &[1, 130, 600],
            &[2, 130, 600],
            &[130, 600],
        ]
        .map(row);
        let bases = Bases::new(rows.each_ref().map(Vec::as_slice), 700);
        let lines = bases.record();
        assert_eq!(lines.len(), 1 + 4 * 2);
        assert_eq!(lines[0].words[..4], [1 << 2 | 1 << 9, 0, 0, 0]);
        assert_eq!((record(&lines).first(), bases.first()), (130, 130));
        assert_eq!(lines[1].words[..3], [2, 0, 1 << 2]);
        assert_eq!(lines[5].words[..3], [4, 0, 1 << 2]);
        // Rule 600 in the second line of the last row.
        assert_eq!(lines[8].words, [0, 1 << 24, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_class_has_its_first_rule_and_the_lines_that_differ() {
        let rows = [
            &[130, 600][..],
            &[5, 130, 600],
            &[5, 130, 600],
            &[5, 130, 600],
        ]
        .map(row);
        let bases = Bases::new(rows.each_ref().map(Vec::as_slice), 1100);

        // Adds 5, which all others have; and 1030 in the third line.
        let lines = bases.class(0, &difference(&[5, 1030]));
        assert_eq!(lines[0].words[..4], [1 | 1 << 16, 0, 0, 0]);
        assert_eq!(
            (record(&lines).first(), record(&lines).clears()),
            (5, false)
        );
        assert_eq!(record(&lines).lines(), 0b101);
        assert_eq!(lines.len(), 3);
        // A line is there whole, with what is as in the base row.
        assert_eq!(lines[1].words[..3], [1 << 5, 0, 1 << 2]);
        assert_eq!(lines[2].words[..1], [1 << 6]);

        // Adds 6, which the others do not have: the base's first one stays.
        let lines = bases.class(0, &difference(&[6]));
        assert_eq!(
            (record(&lines).first(), record(&lines).clears()),
            (130, false)
        );
        // Takes that away: what comes next in the base rows.
        let lines = bases.class(0, &difference(&[130]));
        assert_eq!(
            (record(&lines).first(), record(&lines).clears()),
            (600, true)
        );
        let lines = bases.class(0, &difference(&[130, 131, 600]));
        assert_eq!(
            (record(&lines).first(), record(&lines).clears()),
            (NO_RULE, true)
        );
    }

    #[test]
    fn without_a_difference_and_a_common_rule_there_is_only_the_base_record() {
        let bases = Bases::new([&[1], &[2], &[4], &[8]], 4);
        assert_eq!(bases.class(0, &[]), [BASE_RECORD]);
        assert_eq!(bases.first(), NO_RULE);
        assert_eq!(bases.others_of(0).collect::<Vec<_>>(), [0]);
        let bases = Bases::new([&[0], &[6], &[4], &[12]], 4);
        assert_eq!(bases.others_of(0).collect::<Vec<_>>(), [4]);
    }
}

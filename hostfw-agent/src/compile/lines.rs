//! The lines of one of the arrays that programs read, in chunks that two
//! generations share while they are the same.

use std::sync::Arc;

use hostfw_common::index::Line;

/// Lines in a chunk.
pub const CHUNK_LINES: usize = 1024;

/// The contents of an array of lines.
///
/// Copies share their chunks, so a copy is cheap, and so is finding what
/// differs: chunks that are the same allocation hold the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// The last one is filled up with lines of zeroes.
    chunks: Vec<Arc<[Line]>>,
    len: usize,
}

impl Lines {
    /// How many lines there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The line of this number.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&Line> {
        let number = number as usize;
        if number >= self.len {
            return None;
        }
        self.chunks[number / CHUNK_LINES].get(number % CHUNK_LINES)
    }

    /// All lines, [`CHUNK_LINES`] at a time; those behind the last are zeroes.
    #[must_use]
    pub fn chunks(&self) -> &[Arc<[Line]>] {
        &self.chunks
    }

    /// All lines, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Line> {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.iter())
            .take(self.len)
    }

    /// These lines.
    #[cfg(test)]
    pub(crate) fn of(lines: &[Line]) -> Self {
        let mut array = Self::default();
        array.grow(lines.len());
        array.write(0, lines);
        array
    }

    /// Makes the array longer, by lines of zeroes.
    pub(crate) fn grow(&mut self, by: usize) {
        self.len += by;
        while self.chunks.len() * CHUNK_LINES < self.len {
            self.chunks.push(vec![Line::EMPTY; CHUNK_LINES].into());
        }
    }

    /// Writes lines that are there, from `first` on.
    pub(super) fn write(&mut self, first: u32, lines: &[Line]) {
        let mut next = first as usize;
        let mut rest = lines;
        while !rest.is_empty() {
            let within = next % CHUNK_LINES;
            let (now, later) = rest.split_at(rest.len().min(CHUNK_LINES - within));
            let chunk = &mut self.chunks[next / CHUNK_LINES];
            if chunk[within..within + now.len()] != *now {
                Arc::make_mut(chunk)[within..within + now.len()].copy_from_slice(now);
            }
            next += now.len();
            rest = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64) -> Line {
        Line { words: [number; 8] }
    }

    #[test]
    fn lines_are_written_across_chunks_and_copies_keep_what_they_had() {
        let mut lines = Lines::default();
        lines.grow(CHUNK_LINES + 10);
        let before = lines.clone();
        let written: Vec<_> = (1..=8).map(line).collect();
        let first = CHUNK_LINES as u32 - 4;
        lines.write(first, &written);
        for (number, line) in (first..).zip(&written) {
            assert_eq!(lines.get(number), Some(line));
            assert_eq!(before.get(number), Some(&Line::EMPTY));
        }
        assert_eq!(lines.get(CHUNK_LINES as u32 + 10), None);
        assert_eq!(lines.iter().count(), lines.len());
        assert_ne!(lines, before);
    }

    #[test]
    fn what_is_written_again_the_same_copies_nothing() {
        let mut lines = Lines::default();
        lines.grow(3 * CHUNK_LINES);
        lines.write(5, &[line(1)]);
        let before = lines.clone();
        lines.write(5, &[line(1)]);
        lines.write(2 * CHUNK_LINES as u32, &[line(2)]);
        let same: Vec<bool> = lines
            .chunks()
            .iter()
            .zip(before.chunks())
            .map(|(a, b)| Arc::ptr_eq(a, b))
            .collect();
        assert_eq!(same, [true, true, false]);
    }
}

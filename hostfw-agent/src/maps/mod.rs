//! Writes images into maps and switches generations.

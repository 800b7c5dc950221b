//! What is valid, and yet probably not meant.

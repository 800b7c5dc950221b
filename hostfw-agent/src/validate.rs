//! From resources to the model: the only constructor of a valid model.

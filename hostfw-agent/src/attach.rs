//! Loads programs, attaches them to interfaces, pins what must survive.

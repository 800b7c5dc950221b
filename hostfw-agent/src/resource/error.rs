use std::fmt;

use crate::model::ObjectRef;

/// Why a document could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceError {
    /// Number of the document in its text; the first is 1.
    pub document: usize,
    /// The object, if it could be told.
    pub object: Option<ObjectRef>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is neither YAML nor JSON.
    Syntax {
        /// Line in the whole text; the first is 1.
        line: usize,
        /// Column in characters; the first is 1.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// A field is unknown, missing or of the wrong type.
    Field {
        /// `spec.ingress[0].action`; empty means the document itself.
        path: String,
        /// What could stand there.
        expected: String,
        /// What stands there.
        found: String,
        /// Line in the whole text where the document begins.
        line: usize,
    },
}

impl std::error::Error for ResourceError {}

impl fmt::Display for ResourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "document {}", self.document)?;
        match &self.problem {
            Problem::Syntax {
                line,
                column,
                message,
            } => write!(f, ", line {line}, column {column}: {message}"),
            Problem::Field {
                path,
                expected,
                found,
                line,
            } => {
                write!(f, " (line {line}): ")?;
                if let Some(object) = &self.object {
                    write!(f, "{object}: ")?;
                }
                if !path.is_empty() {
                    write!(f, "{path}: ")?;
                }
                write!(f, "expected {expected}, found {found}")
            }
        }
    }
}

use std::fmt;

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationError {
    /// `spec.ingress[0].protocol`.
    pub field: String,
    /// What could stand there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl std::error::Error for ValidationError {}

impl fmt::Display for ValidationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            expected,
            found,
        } = self;
        write!(f, "{field}: expected {expected}, found {found}")
    }
}

/// What has been found wrong so far.
///
/// A conversion goes on after a finding, with whatever value is at hand: the
/// result is thrown away if there is any finding.
#[derive(Default)]
pub(super) struct Findings {
    errors: Vec<ValidationError>,
    /// Findings beyond those that are kept.
    more: usize,
}

/// Findings that are told one by one: nobody reads more, and an object can
/// have a million.
pub(super) const MOST_ERRORS: usize = 100;

impl Findings {
    pub(super) fn invalid(
        &mut self,
        field: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        self.push(ValidationError {
            field: field.into(),
            expected: expected.into(),
            found: found.into(),
        });
    }

    fn push(&mut self, error: ValidationError) {
        if self.errors.len() < MOST_ERRORS {
            self.errors.push(error);
        } else {
            self.more += 1;
        }
    }

    /// Whether a list is short enough to be looked at.
    pub(super) fn within_limit(
        &mut self,
        field: &str,
        length: usize,
        limit: usize,
        of: &str,
    ) -> bool {
        let fits = length <= limit;
        if !fits {
            self.invalid(field, format!("at most {limit} {of}"), length.to_string());
        }
        fits
    }

    pub(super) fn into_result<T>(self, value: T) -> Result<T, Vec<ValidationError>> {
        let Self { mut errors, more } = self;
        if more > 0 {
            errors.push(ValidationError {
                field: "spec".to_owned(),
                expected: "no further errors".to_owned(),
                found: format!("{more} more"),
            });
        }
        if errors.is_empty() {
            Ok(value)
        } else {
            Err(errors)
        }
    }
}

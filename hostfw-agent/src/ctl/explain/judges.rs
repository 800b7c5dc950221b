//! Who answers, and whether they agree.

use clap::ValueEnum;

use super::ExplainError;
use crate::{
    judge::{Judge, Judges, Kernel},
    model::Interface,
    question::{Answer, Question},
    reference::Reference,
    resource::Resource,
};

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Choice {
    /// The resources themselves, read by the semantics.
    Reference,
    /// The tables that are compiled from them.
    Tables,
    /// The programs, loaded a second time beside those that enforce (root).
    Kernel,
    /// All of them, compared.
    All,
}

/// The judges that were chosen.
pub(super) enum Bench {
    /// The reference judge alone: it needs no tables.
    Reference(Box<Reference>),
    /// Those that work from tables, too.
    Tables(Box<Judges>),
    /// The programs alone.
    Kernel(Box<Judges>, Box<Kernel>),
    /// All of them.
    All(Box<Judges>, Box<Kernel>),
}

/// What a judge says.
pub(super) struct Opinion {
    pub(super) judge: Judge,
    pub(super) answer: Answer,
}

impl Bench {
    pub(super) fn new(
        choice: Choice,
        resources: &[Resource],
        node: &str,
        interfaces: &[Interface],
    ) -> Result<Self, ExplainError> {
        let judges = || Judges::new(resources, node, interfaces).map(Box::new);
        let with_kernel = || {
            let judges = judges()?;
            let mut kernel = Kernel::open()?;
            kernel.load(judges.image())?;
            Ok::<_, ExplainError>((judges, Box::new(kernel)))
        };
        Ok(match choice {
            Choice::Reference => {
                Self::Reference(Box::new(Reference::new(resources, node, interfaces)))
            }
            Choice::Tables => Self::Tables(judges()?),
            Choice::Kernel => {
                let (judges, kernel) = with_kernel()?;
                Self::Kernel(judges, kernel)
            }
            Choice::All => {
                let (judges, kernel) = with_kernel()?;
                Self::All(judges, kernel)
            }
        })
    }

    /// The judge that tells how it comes to an answer.
    pub(super) const fn reference(&self) -> &Reference {
        match self {
            Self::Reference(reference) => reference,
            Self::Tables(judges) | Self::Kernel(judges, _) | Self::All(judges, _) => {
                judges.reference()
            }
        }
    }

    /// What the judges say, of whom there is at least one; the first one's is
    /// the answer.
    pub(super) fn opinions(&mut self, question: &Question) -> Result<Vec<Opinion>, ExplainError> {
        let opinion = |judge, answer| Opinion { judge, answer };
        Ok(match self {
            Self::Reference(reference) => {
                vec![opinion(Judge::Reference, reference.judge(question))]
            }
            Self::Tables(judges) => vec![opinion(Judge::Tables, judges.by_tables(question))],
            Self::Kernel(judges, kernel) => {
                vec![opinion(Judge::Kernel, judges.by_kernel(kernel, question)?)]
            }
            Self::All(judges, kernel) => vec![
                opinion(Judge::Reference, judges.by_reference(question)),
                opinion(Judge::Tables, judges.by_tables(question)),
                opinion(Judge::Kernel, judges.by_kernel(kernel, question)?),
            ],
        })
    }
}

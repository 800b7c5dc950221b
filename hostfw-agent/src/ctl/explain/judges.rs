//! Who answers, and whether they agree.

use clap::ValueEnum;

use super::ExplainError;
use crate::{
    compile::{self, evaluate, image::Image},
    model::Interface,
    question::{Answer, Question},
    reference::Reference,
    resource::Resource,
    select,
    validate::{self, Object},
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
pub(super) struct Judges {
    choice: Choice,
    pub(super) reference: Reference,
    interfaces: Vec<Interface>,
    /// If a judge works from them.
    tables: Option<Image>,
}

/// What a judge says.
pub(super) struct Opinion {
    pub(super) judge: &'static str,
    pub(super) answer: Answer,
}

impl Judges {
    pub(super) fn new(
        choice: Choice,
        resources: &[Resource],
        objects: Vec<Object>,
        node: &str,
        interfaces: Vec<Interface>,
    ) -> Result<Self, ExplainError> {
        let tables = match choice {
            Choice::Reference => None,
            Choice::Tables | Choice::Kernel | Choice::All => {
                let model = validate::assemble(objects);
                let selection = select::select(&model, node, &interfaces);
                Some(compile::compile(&selection)?)
            }
        };
        Ok(Self {
            choice,
            reference: Reference::new(resources, node, &interfaces),
            interfaces,
            tables,
        })
    }

    /// What the judges say; the first one's is the answer.
    pub(super) fn opinions(&self, question: &Question) -> Vec<Opinion> {
        let mut opinions = Vec::new();
        if matches!(self.choice, Choice::Reference | Choice::All) {
            opinions.push(Opinion {
                judge: "reference",
                answer: self.reference.judge(question),
            });
        }
        if let Some(image) = self
            .tables
            .as_ref()
            .filter(|_| matches!(self.choice, Choice::Tables | Choice::All))
        {
            opinions.push(Opinion {
                judge: "tables",
                answer: evaluate::answer(image, self.index(question), question),
            });
        }
        opinions
    }

    /// The index of the question's interface; 0, which none has, if it is not
    /// there.
    fn index(&self, question: &Question) -> u32 {
        self.interfaces
            .iter()
            .find(|interface| interface.name == question.interface)
            .map_or(0, |interface| interface.index)
    }
}

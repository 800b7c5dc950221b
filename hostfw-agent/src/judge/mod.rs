//! Three judges that must agree: the reference, which reads the resources; the
//! compiled tables, read in user space; and the loaded programs, in test runs
//! of the kernel.
//!
//! They share the resources and the question. What one of them gets wrong, the
//! other two tell.

mod frame;
mod kernel;

use std::{collections::BTreeMap, fmt};

pub use kernel::{Kernel, KernelError};

use crate::{
    compile::{CompileError, compile, evaluate, image::Image},
    model::{Interface, ObjectRef},
    question::{Answer, Question},
    reference::Reference,
    resource::Resource,
    select::select,
    validate::{ValidationError, assemble, validate},
};

/// A judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Judge {
    /// Works from the resources.
    Reference,
    /// Works from the compiled image.
    Tables,
    /// The loaded programs.
    Kernel,
}

impl Judge {
    /// The name that options and messages use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Tables => "tables",
            Self::Kernel => "kernel",
        }
    }
}

impl fmt::Display for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why resources cannot be judged by.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// An object is not valid.
    #[error("{object}: {}", list(.errors))]
    Invalid {
        /// Which one.
        object: ObjectRef,
        /// All that is wrong with it.
        errors: Vec<ValidationError>,
    },
    /// Together they are too much for a limit.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The programs cannot judge.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

fn list(errors: &[ValidationError]) -> String {
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    errors.join("; ")
}

/// The judges of one node's resources.
#[derive(Debug)]
pub struct Judges {
    reference: Reference,
    image: Image,
    /// By name.
    interfaces: BTreeMap<String, u32>,
}

impl Judges {
    /// Reads the resources as `node`, which has `interfaces`, does.
    ///
    /// # Errors
    ///
    /// If one of them is not valid, or they do not compile.
    pub fn new(
        resources: &[Resource],
        node: &str,
        interfaces: &[Interface],
    ) -> Result<Self, JudgeError> {
        let objects = resources
            .iter()
            .map(|resource| {
                validate(resource).map_err(|errors| JudgeError::Invalid {
                    object: resource.object_ref(),
                    errors,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let selection = select(&assemble(objects), node, interfaces);
        Ok(Self {
            reference: Reference::new(resources, node, interfaces),
            image: compile(&selection)?,
            interfaces: interfaces
                .iter()
                .map(|interface| (interface.name.clone(), interface.index))
                .collect(),
        })
    }

    /// The judge that works from the resources.
    #[must_use]
    pub const fn reference(&self) -> &Reference {
        &self.reference
    }

    /// What the other two work from.
    #[must_use]
    pub const fn image(&self) -> &Image {
        &self.image
    }

    /// The index of an interface; 0, which none has, if it is not there.
    fn index(&self, question: &Question) -> u32 {
        let index = self.interfaces.get(&question.interface);
        index.copied().unwrap_or(0)
    }

    /// What the resources say.
    #[must_use]
    pub fn by_reference(&self, question: &Question) -> Answer {
        self.reference.judge(question)
    }

    /// What the tables say.
    #[must_use]
    pub fn by_tables(&self, question: &Question) -> Answer {
        evaluate::answer(&self.image, self.index(question), question)
    }

    /// What the programs say, to which [`Kernel::load`] has given this
    /// [`image`](Self::image).
    ///
    /// # Errors
    ///
    /// If a test run fails, or the programs contradict themselves.
    pub fn by_kernel(
        &self,
        kernel: &mut Kernel,
        question: &Question,
    ) -> Result<Answer, KernelError> {
        kernel.answer(&self.image, self.index(question), question)
    }
}

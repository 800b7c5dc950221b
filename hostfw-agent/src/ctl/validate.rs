use std::io::{self, Write};

use clap::Args;

use super::{
    CtlError, Streams,
    input::{Files, Input},
    summary::Summary,
};
use crate::{
    lint::{self, Warning},
    validate,
};

#[derive(Debug, Args)]
pub(super) struct Validate {
    #[command(flatten)]
    files: Files,
}

impl Validate {
    pub(super) fn run(
        &self,
        streams: &mut Streams<impl io::Read, impl Write, impl Write>,
    ) -> Result<(), CtlError> {
        let mut input = Input::read(&self.files, &mut streams.input);
        let objects = input.validate();
        let model = validate::assemble(objects);
        let mut warnings = lint::lint(&model);
        let mut unenforced = lint::unenforced_together(&model);
        let known = lint::Known::among(input.items.iter().map(|item| &item.resource));
        for item in &input.items {
            warnings.extend(lint::lint_resource(&item.resource));
            unenforced.extend(lint::unenforced(&item.resource, known));
        }
        warnings.extend(unenforced.into_iter().map(Warning::from));
        for warning in warnings {
            writeln!(streams.warnings, "Warning: {warning}")?;
        }
        if !input.errors.is_empty() {
            return Err(CtlError::Input(input.errors));
        }
        if input.items.is_empty() {
            return Err(CtlError::NoResources);
        }
        let items = &input.items;
        let summary = Summary {
            done: "validated",
            kinds: items.iter().map(|item| item.resource.kind()).collect(),
            handled: items.len(),
            total: items.len(),
        };
        writeln!(streams.output, "{}", summary.success())?;
        Ok(())
    }
}

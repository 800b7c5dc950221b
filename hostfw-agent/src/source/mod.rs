//! Where resources come from: a folder of YAML and JSON files, the store.
//!
//! [`Source`] is what the rest of the agent sees of it. [`read_folder`] takes all of it in at once, [`FolderReader`] what may have
//! changed since; [`contents`] says which object stands in which file, [`store`]
//! changes single objects, and [`follow`] tells when anything changed.

pub mod atomic;
pub mod contents;
mod folder;
pub mod follow;
mod keep;
pub mod kubernetes;
mod live;
mod reader;
pub mod stamp;
pub mod store;
mod text;
pub mod yaml;

pub use folder::{
    Files, MAX_FILE_BYTES, MAX_FILES, MAX_TOTAL_BYTES, Snapshot, SourceError, SourceFile,
    is_resource_file, read_folder,
};
pub(crate) use folder::{read_file, read_text};
pub use live::{FolderSource, Source};
pub use reader::{FolderReader, Trust};
pub use text::Text;

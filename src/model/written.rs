//! What commands say of themselves that write a text which is no report: `init`, `completions`, `schema`.

use std::path::PathBuf;

use serde::Serialize;

/// The schema of [`Written`].
pub const INIT_SCHEMA: &str = "kvs-export/init/1";

/// The schema of [`Unprinted`] when `completions` refuses.
pub const COMPLETIONS_SCHEMA: &str = "kvs-export/completions/1";

/// The schema of [`Unprinted`] when `schema` refuses.
pub const SCHEMA_SCHEMA: &str = "kvs-export/schema/1";

/// Which file `init` wrote, or why it wrote none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    /// [`INIT_SCHEMA`].
    pub schema: &'static str,
    /// The file.
    pub file: Option<PathBuf>,
    /// Why it is not written.
    pub error: Option<String>,
}

impl Written {
    /// It is written there.
    pub fn to(file: PathBuf) -> Self {
        Self { schema: INIT_SCHEMA, file: Some(file), error: None }
    }

    /// It is not written.
    pub fn refused(error: String) -> Self {
        Self { schema: INIT_SCHEMA, file: None, error: Some(error) }
    }
}

/// Why a command that prints a text of its own does not print it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unprinted {
    /// The command's.
    pub schema: &'static str,
    /// Why.
    pub error: String,
}

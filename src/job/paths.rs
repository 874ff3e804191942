//! Paths of a job file, by their text alone: this module never looks at the disk.

use std::path::{Component, Path, PathBuf};

use super::errors::Refusal;

/// Makes `text` an absolute path below `folder` (unless it is absolute itself) and removes `.` and `..`.
///
/// By the text, so a `..` behind a symbolic link leads to the folder that is written, not to the link's target.
pub(super) fn absolute(folder: &Path, text: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for component in folder.join(text).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                path.pop();
            }
            other => path.push(other),
        }
    }
    path
}

/// Refuses what is no path, or would surprise as one.
pub(super) fn check(text: &str) -> Result<(), Refusal> {
    let accepted = "a path, relative to the job file's folder or absolute";
    if text.is_empty() {
        Err(Refusal::new("the path is empty").accepts(accepted))
    } else if text.chars().any(char::is_control) {
        Err(Refusal::new(format!("{text:?} has a control character")).accepts(accepted))
    } else if text == "~" || text.starts_with("~/") {
        Err(Refusal::new(format!("{text:?}: \"~\" is not expanded in a job file")).accepts(accepted))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_from_the_job_files_folder_and_normalised() {
        for (text, expected) in [
            ("state.db", "/etc/jobs/state.db"),
            ("./a/../b", "/etc/jobs/b"),
            ("../out", "/etc/out"),
            ("/srv//x/./y/", "/srv/x/y"),
            ("../../../../x", "/x"),
        ] {
            assert_eq!(absolute(Path::new("/etc/jobs"), text), PathBuf::from(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in ["", "a\nb", "~/exports", "~"] {
            assert!(check(text).is_err(), "{text:?}");
        }
        assert_eq!(check("a~/b"), Ok(()));
    }
}

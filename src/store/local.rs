//! Keeps the state file off network file systems, where locks and SQLite's shared memory do not hold.

use std::path::Path;

use super::error::StoreError;

/// Refuses a state file at `path` if its folder, which must exist, lies on a network file system.
///
/// Only Linux tells; elsewhere everything passes.
pub fn refuse_network(path: &Path, folder: &Path) -> Result<(), StoreError> {
    match network_kind(folder)? {
        Some(kind) => Err(StoreError::NetworkFileSystem { path: path.to_owned(), kind }),
        None => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
fn network_kind(_folder: &Path) -> Result<Option<String>, StoreError> {
    Ok(None)
}

#[cfg(target_os = "linux")]
fn network_kind(folder: &Path) -> Result<Option<String>, StoreError> {
    use std::os::unix::fs::MetadataExt;

    use crate::fs::failed_to;

    let statfs = rustix::fs::statfs(folder)
        .map_err(|errno| failed_to("find the file system of", folder)(errno.into()))?;
    // A 32-bit word, sign-extended on some platforms.
    let magic = i128::from(statfs.f_type) & 0xffff_ffff;
    if magic != FUSE {
        return Ok(kind_of_magic(magic).map(str::to_owned));
    }
    // FUSE is both: what it carries stands in the table of mounts only.
    let device = std::fs::metadata(folder).map_err(failed_to("read", folder))?.dev();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    Ok(network_fuse(&mounts, &device).map(str::to_owned))
}

#[cfg(target_os = "linux")]
const FUSE: i128 = 0x6573_5546;

/// The name of a network file system's magic number (`statfs(2)`).
#[cfg(target_os = "linux")]
fn kind_of_magic(magic: i128) -> Option<&'static str> {
    match magic {
        0x6969 => Some("nfs"),
        0x517b => Some("smb"),
        0xff53_4d42 => Some("cifs"),
        0xfe53_4d42 => Some("smb2"),
        0x00c3_6400 => Some("ceph"),
        0x5346_414f | 0x6b41_4653 => Some("afs"),
        0x7375_7245 => Some("coda"),
        0x0bd0_0bd0 => Some("lustre"),
        0x564c => Some("ncp"),
        _ => None,
    }
}

/// The type of the FUSE mount of `device` (`major:minor`), if it is one that goes over a network.
#[cfg(target_os = "linux")]
fn network_fuse<'a>(mountinfo: &'a str, device: &str) -> Option<&'a str> {
    const NETWORK: [&str; 12] = [
        "sshfs",
        "s3fs",
        "rclone",
        "gcsfuse",
        "mount-s3",
        "goofys",
        "glusterfs",
        "ceph",
        "ceph-fuse",
        "davfs",
        "juicefs",
        "curlftpfs",
    ];
    let mut kinds = mountinfo.lines().filter_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        (mount.split(' ').nth(2) == Some(device)).then(|| source.split(' ').next()).flatten()
    });
    kinds.next_back().filter(|kind| kind.strip_prefix("fuse.").is_some_and(|name| NETWORK.contains(&name)))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_told_by_their_magic_number() {
        assert_eq!(kind_of_magic(0x6969), Some("nfs"));
        let sign_extended = i128::from(-11_317_950_i64) & 0xffff_ffff;
        assert_eq!(kind_of_magic(sign_extended), Some("cifs"));
        assert_eq!(kind_of_magic(0xef53), None, "ext4");
    }

    #[test]
    fn of_fuse_mounts_only_those_over_a_network_are_refused() {
        let mounts = "36 35 0:51 / /home/a/far rw,nosuid shared:1 - fuse.sshfs host:/x rw,user_id=0\n\
                      37 35 0:52 / /merged rw - fuse.fuse-overlayfs fuse-overlayfs rw\n";
        assert_eq!(network_fuse(mounts, "0:51"), Some("fuse.sshfs"));
        assert_eq!(network_fuse(mounts, "0:52"), None);
        assert_eq!(network_fuse(mounts, "0:53"), None);
    }

    #[test]
    fn a_local_folder_passes() {
        let folder = tempfile::tempdir().expect("folder");
        assert!(refuse_network(&folder.path().join("state.db"), folder.path()).is_ok());
    }
}

//! What kind of file system a file is on.

use std::fs::File;

/// Where a file lives, as far as it makes a difference: whether a server stands behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSystem {
    remote: Option<&'static str>,
}

impl FileSystem {
    /// That of an open file. What cannot be found out counts as local.
    pub(super) fn of(file: &File) -> Self {
        Self { remote: remote(file) }
    }

    /// The name of the remote file system, `NFS` for one; nothing for a local one. FUSE counts as remote: most
    /// of what is mounted through it is.
    pub fn remote(self) -> Option<&'static str> {
        self.remote
    }
}

/// Source: `include/uapi/linux/magic.h` of Linux, and the headers of those that are not in it.
#[cfg(target_os = "linux")]
fn remote(file: &File) -> Option<&'static str> {
    // The field's type differs between architectures; the numbers have 32 bits.
    let magic = rustix::fs::fstatfs(file).ok()?.f_type as u32;
    Some(match magic {
        0x6969 => "NFS",
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => "SMB/CIFS",
        0x6573_5546 => "FUSE",
        0x00c3_6400 => "CephFS",
        0x0102_1997 => "9P",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x0116_1970 => "GFS2",
        0x7461_636f => "OCFS2",
        0x1983_0326 => "BeeGFS",
        _ => return None,
    })
}

#[cfg(not(target_os = "linux"))]
fn remote(_: &File) -> Option<&'static str> {
    None
}

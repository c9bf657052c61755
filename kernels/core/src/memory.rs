//! How much memory this process may still take.

use crate::error::{Failure, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes available: the system's estimate (`MemAvailable`) or what is left under the control group's limit, the smaller.
///
/// # Errors
/// `internal` when the system does not say.
pub fn available() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")
        .map_err(|error| Failure::internal(format!("/proc/meminfo cannot be read: {error}")))?;
    let system =
        mem_available(&text).ok_or_else(|| Failure::internal("/proc/meminfo has no MemAvailable"))?;
    Ok(fs::read_to_string("/proc/self/cgroup").map_or(system, |groups| {
        group_folders(&groups, Path::new("/sys/fs/cgroup"))
            .iter()
            .filter_map(|folder| left_in(folder))
            .fold(system, u64::min)
    }))
}

fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The folders of this process's memory control group and of its parents, version 2 and 1.
fn group_folders(groups: &str, root: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let base = if controllers.is_empty() {
            root.to_path_buf()
        } else if controllers.split(',').any(|controller| controller == "memory") {
            root.join("memory")
        } else {
            continue;
        };
        let leaf = base.join(path.trim_start_matches('/'));
        folders
            .extend(leaf.ancestors().take_while(|folder| folder.starts_with(&base)).map(Path::to_path_buf));
    }
    folders
}

/// What a group's limit leaves; file pages that can be dropped at once do not count as used.
fn left_in(folder: &Path) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let inactive = stat
        .lines()
        .find_map(|line| {
            line.strip_prefix("inactive_file ").or_else(|| line.strip_prefix("total_inactive_file "))
        })
        .and_then(|bytes| bytes.trim().parse::<u64>().ok())
        .unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(inactive)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_available_memory_in_kilobytes() {
        let text = "MemTotal:       8000 kB\nMemFree: 1 kB\nMemAvailable:    5000 kB\n";
        assert_eq!(mem_available(text), Some(5000 * 1024));
        assert_eq!(mem_available("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn looks_in_the_group_and_its_parents_of_both_versions() {
        let root = Path::new("/cg");
        let folders = group_folders("0::/a/b\n", root);
        assert_eq!(folders, ["/cg/a/b", "/cg/a", "/cg"].map(PathBuf::from));
        let folders = group_folders("5:cpu,cpuacct:/x\n4:memory:/x\n", root);
        assert_eq!(folders, ["/cg/memory/x", "/cg/memory"].map(PathBuf::from));
    }

    #[test]
    fn answers_on_this_machine() {
        assert!(available().unwrap() > 0);
    }
}

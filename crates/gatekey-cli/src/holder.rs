//! Which process holds a file.

use std::path::Path;

/// `; process 1234 (acme-server) holds it`, where the system says so.
#[cfg(target_os = "linux")]
pub(crate) fn holder(store: &Path) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(file) = std::fs::metadata(store) else {
        return String::new();
    };
    let has_it = |process: &u32| {
        let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).into_iter();
        descriptors.flatten().flatten().any(|descriptor| {
            let open = std::fs::metadata(descriptor.path());
            open.is_ok_and(|open| (open.dev(), open.ino()) == (file.dev(), file.ino()))
        })
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let found = processes
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .filter(|process| *process != std::process::id())
        .find(has_it);
    match found {
        Some(process) => {
            let name = std::fs::read_to_string(format!("/proc/{process}/comm"));
            let name = name.unwrap_or_default();
            format!("; process {process} ({}) holds it", name.trim())
        }
        None => String::new(),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn holder(_: &Path) -> String {
    String::new()
}

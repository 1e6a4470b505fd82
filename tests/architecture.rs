//! The dependency rules of ARCHITECTURE.md, checked against manifests and sources (main.1).
#![allow(clippy::unwrap_used, reason = "tests, and what they call")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use toml::{Table, Value};

/// Every package of ours, its folder, and what it may use of ours: the picture under "Dependencies".
const ALLOWED: &[Package] = &[
    Package { name: "tidegate", folder: "", uses: Uses::Everything },
    Package { name: "tidegate-model", folder: "crates/model", uses: Uses::Only(&[]) },
    Package {
        name: "tidegate-astarte",
        folder: "crates/astarte",
        uses: Uses::Only(&["tidegate-model", "tidegate-uplink"]),
    },
    Package { name: "tidegate-settings", folder: "crates/settings", uses: Uses::Only(&[]) },
    Package { name: "tidegate-coap", folder: "crates/coap", uses: Uses::Only(&["tidegate-model"]) },
    Package { name: "tidegate-mqtt", folder: "crates/mqtt", uses: Uses::Only(&["tidegate-model"]) },
    Package {
        name: "tidegate-expression",
        folder: "crates/expression",
        uses: Uses::Only(&["tidegate-model", "tidegate-settings"]),
    },
    Package { name: "tidegate-heap", folder: "crates/heap", uses: Uses::Only(&[]) },
    Package { name: "tidegate-names", folder: "crates/names", uses: Uses::Only(&[]) },
    Package {
        name: "tidegate-rules",
        folder: "crates/rules",
        uses: Uses::Only(&["tidegate-expression", "tidegate-model"]),
    },
    Package { name: "tidegate-scram", folder: "crates/scram", uses: Uses::Only(&[]) },
    Package {
        name: "tidegate-sparkplug",
        folder: "crates/sparkplug",
        uses: Uses::Only(&["tidegate-model"]),
    },
    Package {
        name: "tidegate-store",
        folder: "crates/store",
        uses: Uses::Only(&["tidegate-model"]),
    },
    Package { name: "tidegate-tls", folder: "crates/tls", uses: Uses::Only(&["tidegate-model"]) },
    Package {
        name: "tidegate-mapping",
        folder: "crates/mapping",
        uses: Uses::Only(&["tidegate-expression", "tidegate-model", "tidegate-settings"]),
    },
    Package {
        name: "tidegate-broker",
        folder: "crates/broker",
        uses: Uses::Only(&["tidegate-model", "tidegate-mqtt", "tidegate-store"]),
    },
    Package {
        name: "tidegate-uplink",
        folder: "crates/uplink",
        uses: Uses::Only(&["tidegate-model", "tidegate-rules", "tidegate-store"]),
    },
    Package {
        name: "tidegate-adapter-api",
        folder: "adapters/api",
        uses: Uses::Only(&["tidegate-model"]),
    },
    Package {
        name: "tidegate-adapter-coap",
        folder: "adapters/coap",
        uses: Uses::Only(&["tidegate-adapter-api", "tidegate-coap", "tidegate-model"]),
    },
    Package {
        name: "tidegate-adapter-http",
        folder: "adapters/http",
        uses: Uses::Only(&["tidegate-adapter-api", "tidegate-model", "tidegate-tls"]),
    },
    Package { name: "tidegate-adapter-opcua", folder: "adapters/opcua", uses: ADAPTER },
    Package { name: "tidegate-fault-disk", folder: "tests/disk", uses: Uses::Only(&[]) },
    Package { name: "xtask", folder: "xtask", uses: Uses::Only(&[]) },
];

const ADAPTER: Uses = Uses::Only(&["tidegate-adapter-api", "tidegate-model"]);

/// Runtimes, sockets and protocol drivers: nothing under `crates/` may reach them, however indirectly.
/// rustls is none: it turns bytes into bytes.
const NOT_FOR_LOGIC: &[&str] = &[
    "async-io",
    "async-opcua",
    "async-std",
    "axum",
    "hyper",
    "mio",
    "quinn",
    "reqwest",
    "rumqttc",
    "smol",
    "socket2",
    "tokio",
    "tokio-util",
    "tower",
    "ureq",
];

/// Calls that a logic crate leaves to its caller; `crates/clippy.toml` bans some of them by path as well.
const NOT_CALLED_BY_LOGIC: &[&str] = &[
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "std::fs",
    "std::process",
    "Instant::now",
    "SystemTime::now",
    "thread::spawn",
    "thread::sleep",
];

struct Package {
    name: &'static str,
    folder: &'static str,
    uses: Uses,
}

#[derive(Clone, Copy)]
enum Uses {
    Everything,
    Only(&'static [&'static str]),
}

#[test]
fn main_1_own_crates_use_only_what_the_page_draws() {
    let mut faults = Vec::new();
    for (folder, manifest) in manifests() {
        faults.extend(forbidden_edges(&folder, &manifest));
    }
    assert!(faults.is_empty(), "not drawn in ARCHITECTURE.md:\n{}", faults.join("\n"));
}

#[test]
fn a_forbidden_edge_in_any_kind_of_dependency_is_found() {
    #[rustfmt::skip]
    let cases = [
        // folder           dependencies                                                found
        ("crates/mqtt",     "[dependencies]\ntidegate-store.workspace = true",          true),
        ("crates/mqtt",     "[dependencies]\ntidegate-model.workspace = true",          false),
        ("crates/mqtt",     "[dev-dependencies]\ntidegate-broker.workspace = true",     true),
        ("crates/mqtt",     "[dependencies.x]\npackage = \"tidegate-store\"\npath = \"\"", true),
        ("crates/model",    "[target.'cfg(unix)'.dependencies]\ntidegate-mqtt = \"1\"", true),
        ("crates/store",    "[build-dependencies]\nxtask = \"1\"",                      true),
        ("crates/rules",    "[dependencies]\ntokio = \"1\"",                            true),
        ("crates/rules",    "[dependencies.io]\npackage = \"mio\"",                     true),
        ("adapters/http",   "[dependencies]\ntokio = \"1\"",                            false),
        ("adapters/http",   "[dependencies]\ntidegate-adapter-coap = \"1\"",            true),
        ("adapters/coap",   "[dependencies]\ntidegate-coap = \"1\"",                    false),
        ("",                "[dependencies]\ntidegate-adapter-coap = \"1\"",            false),
        ("crates/new",      "",                                                         true),
    ];
    for (folder, dependencies, expected) in cases {
        let name = ALLOWED
            .iter()
            .find(|package| package.folder == folder)
            .map_or("new", |package| package.name);
        let manifest = format!("[package]\nname = \"{name}\"\n{dependencies}");
        let manifest = toml::from_str(&manifest).unwrap();
        let found = !forbidden_edges(Path::new(folder), &manifest).is_empty();
        assert_eq!(found, expected, "{folder}: {dependencies}");
    }
}

#[test]
fn the_page_names_every_crate() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let places =
        page.split("## Places").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    for (folder, _) in manifests() {
        let name = folder.file_name().map_or_else(|| "src".into(), |name| name.to_string_lossy());
        let is_named = places.split_whitespace().any(|word| word == format!("{name}/"));
        assert!(is_named, "{} is not under \"Places\" of ARCHITECTURE.md", folder.display());
    }
}

/// Manifests show the first step only: a library could bring a runtime in behind our back.
#[test]
fn logic_crates_reach_no_runtime_through_others() {
    let graph = Graph::read();
    for package in ALLOWED.iter().filter(|package| package.folder.starts_with("crates/")) {
        for banned in NOT_FOR_LOGIC {
            if let Some(way) = graph.way(package.name, banned) {
                panic!("{} reaches {banned}: {}", package.name, way.join(" → "));
            }
        }
    }
    // A graph without edges would pass everything.
    assert!(graph.way("tidegate-adapter-http", "tokio").is_some(), "the graph has no edges");
}

#[test]
fn logic_crates_open_nothing_and_ask_for_no_time() {
    let mut faults = Vec::new();
    for file in sources(&root().join("crates")) {
        let text = fs::read_to_string(&file).unwrap();
        for (line, call) in banned_calls(&text) {
            faults.push(format!("{}:{line}: {call}", file.display()));
        }
    }
    assert!(faults.is_empty(), "not for logic crates:\n{}", faults.join("\n"));
}

#[test]
fn banned_calls_are_found_in_code_and_nowhere_else() {
    #[rustfmt::skip]
    let cases: &[(&str, usize)] = &[
        ("use std::net::TcpStream;",                                     1),
        ("let now = std::time::Instant::now();",                         1),
        ("use std::{fs, io};",                                           1),
        ("use std::net::SocketAddr;",                                    0),
        ("use std::{\n    io,\n    net::UdpSocket,\n};",                1),
        ("// like std::fs::read",                                        0),
        ("/// Takes what `Instant::now()` gave.",                        0),
        ("let x = 1; // not SystemTime::now",                            0),
        ("fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n",  0),
        ("#[cfg(test)]\nmod tests;\nuse std::fs;",                       1),
        ("let offsets = 3; let std = 4;",                                0),
    ];
    for (text, count) in cases {
        assert_eq!(banned_calls(text).len(), *count, "{text}");
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every own package's folder, relative to the root, with its manifest.
fn manifests() -> Vec<(PathBuf, Table)> {
    let mut folders = ["", "tests/disk", "xtask"].map(PathBuf::from).to_vec();
    for parent in ["crates", "adapters"] {
        for entry in fs::read_dir(root().join(parent)).unwrap() {
            let folder = Path::new(parent).join(entry.unwrap().file_name());
            if root().join(&folder).join("Cargo.toml").is_file() {
                folders.push(folder);
            }
        }
    }
    assert!(folders.len() > 10, "the workspace has more packages than {folders:?}");
    let read = |folder: PathBuf| {
        let text = fs::read_to_string(root().join(&folder).join("Cargo.toml")).unwrap();
        (folder, toml::from_str(&text).unwrap())
    };
    folders.into_iter().map(read).collect()
}

/// Says what is wrong with one manifest.
fn forbidden_edges(folder: &Path, manifest: &Table) -> Vec<String> {
    let name = manifest["package"]["name"].as_str().unwrap();
    let Some(package) = ALLOWED.iter().find(|package| Path::new(package.folder) == folder) else {
        return vec![format!("{} is a package that nobody drew", folder.display())];
    };
    let mut faults = Vec::new();
    if package.name != name {
        faults.push(format!("{} is called {name}, not {}", folder.display(), package.name));
    }
    for (kind, used) in dependencies(manifest) {
        let is_ours = ALLOWED.iter().any(|other| other.name == used);
        let is_drawn = match package.uses {
            // A crate's tests may switch its own features on.
            _ if used == name => true,
            Uses::Everything => used != "xtask",
            Uses::Only(drawn) => drawn.contains(&used.as_str()),
        };
        if is_ours && !is_drawn {
            faults.push(format!("{name} → {used}"));
        }
        // What only its tests use does not make a logic crate depend on a runtime.
        let is_logic = folder.starts_with("crates") && kind != "dev-dependencies";
        if is_logic && NOT_FOR_LOGIC.contains(&used.as_str()) {
            faults.push(format!("{name} → {used}, a logic crate on a runtime"));
        }
    }
    faults
}

/// Returns the packages that a manifest names, in all its tables of dependencies, with the table's name.
fn dependencies(manifest: &Table) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let targets =
        manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    for table in targets.filter_map(Value::as_table).chain([manifest]) {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(entries) = table.get(kind).and_then(Value::as_table) else { continue };
            for (key, entry) in entries {
                let renamed = entry.get("package").and_then(Value::as_str);
                found.push((kind, renamed.unwrap_or(key).to_owned()));
            }
        }
    }
    found
}

/// Which package uses which, tests aside, as Cargo resolves them for this machine.
struct Graph(BTreeMap<String, BTreeSet<String>>);

impl Graph {
    fn read() -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(root()).args(["metadata", "--format-version", "1", "--locked"]);
        let output = command.output().expect("cargo starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let names: BTreeMap<&str, &str> = metadata["packages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
            .collect();
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in metadata["resolve"]["nodes"].as_array().unwrap() {
            let from = names[node["id"].as_str().unwrap()];
            for used in node["deps"].as_array().unwrap() {
                let is_for_use = |kind: &serde_json::Value| kind["kind"].is_null();
                if used["dep_kinds"].as_array().unwrap().iter().any(is_for_use) {
                    let to = names[used["pkg"].as_str().unwrap()];
                    edges.entry(from.to_owned()).or_default().insert(to.to_owned());
                }
            }
        }
        Self(edges)
    }

    /// Returns the shortest way from one package to another, if there is one.
    fn way(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut frontier = vec![from];
        while !frontier.is_empty() {
            let mut next = Vec::new();
            for package in frontier {
                for used in self.0.get(package).into_iter().flatten() {
                    if used != from && !came_from.contains_key(used.as_str()) {
                        came_from.insert(used, package);
                        next.push(used.as_str());
                    }
                }
            }
            frontier = next;
        }
        let mut way = vec![to.to_owned()];
        let mut at = *came_from.get(to)?;
        while at != from {
            way.push(at.to_owned());
            at = came_from[at];
        }
        way.push(from.to_owned());
        way.reverse();
        Some(way)
    }
}

/// Returns the Rust files under `folder` that are not tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !["tests", "benches", "examples"].contains(&name.as_str()) {
            files.extend(sources(&path));
        } else if name.ends_with(".rs") && name != "tests.rs" {
            files.push(path);
        }
    }
    files
}

/// Returns line and name of each banned call outside comments and inline test modules.
fn banned_calls(text: &str) -> Vec<(usize, &'static str)> {
    let code = match text.find("#[cfg(test)]\nmod tests {") {
        Some(tests) => &text[..tests],
        None => text,
    };
    let mut found = Vec::new();
    let mut is_in_std_group = false;
    for (at, line) in code.lines().enumerate() {
        let line = line.split("//").next().unwrap_or_default();
        is_in_std_group |= line.contains("std::{");
        for call in NOT_CALLED_BY_LOGIC {
            let module = call.strip_prefix("std::").filter(|_| is_in_std_group);
            let is_grouped = module.is_some_and(|module| {
                line.split(|character: char| !character.is_alphanumeric() && character != '_')
                    .any(|word| word == module)
            });
            if line.contains(call) || is_grouped {
                found.push((at + 1, *call));
            }
        }
        is_in_std_group &= !line.contains(';');
    }
    found
}

//! `netvm dt`: surveys, overlays and explanations of device trees.

mod explain;
mod svg;
mod table;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use dt_overlay::board::Board;
use dt_overlay::overlay::{Choices, GuestVmm, Request, guest_overlay, host_overlay};
use dt_overlay::{PlatformNic, Tree, TreeError};
use serde::Serialize;
use vmm_plugin::host::sysfs::Sysfs;

use crate::cli::dt::{DtCommand, GuestVmmName, NicArgs};
use crate::cli::run::{Failure, print, print_json};
use crate::exit::Exit;
use crate::platform;

/// Largest file that is read, in bytes: a tree and the room that a boot loader leaves behind it.
const FILE_MAX: u64 = 2 * dt_overlay::tree::SIZE as u64;
/// Deepest directory that a survey looks into.
const DEPTH: usize = 8;

/// What went wrong with which file; nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum DtError {
    /// A file cannot be read or written.
    #[error("{path:?}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// What is in it is wrong, or does not fit.
    #[error("{path:?}: {error}")]
    Tree {
        /// Which.
        path: PathBuf,
        /// Why.
        error: TreeError,
    },
    /// The file is too large.
    #[error("{path:?} has more than {FILE_MAX} bytes: no tree that Linux takes is as large")]
    Size {
        /// Which.
        path: PathBuf,
    },
    /// A board file of this machine.
    #[error(transparent)]
    Platform(#[from] platform::PlatformError),
    /// No tree was named, and the kernel has none.
    #[error("This machine was not booted with a device tree ({}): name a file", platform::TREE)]
    NoTree,
}

impl DtError {
    fn tree(path: &Path, error: TreeError) -> Self {
        Self::Tree { path: path.to_owned(), error }
    }
}

impl From<DtError> for Failure {
    fn from(error: DtError) -> Self {
        let refused = matches!(error, DtError::Tree { error: TreeError::Impassable { .. }, .. });
        Self::new(if refused { Exit::Refused } else { Exit::Failed }, error)
    }
}

/// Does what was typed.
pub fn run(command: DtCommand) -> Result<Exit, Failure> {
    match command {
        DtCommand::Survey { path, boards, json } => survey(path, &boards, json),
        DtCommand::HostOverlay { nic, output } => {
            let made = Typed::new(&nic)?.with(host_overlay)?;
            give(&made, output.as_deref())
        }
        DtCommand::GuestOverlay { nic, vmm, address, spi, output } => {
            let vmm = match vmm {
                GuestVmmName::Crosvm => GuestVmm::Crosvm,
                GuestVmmName::Standalone => GuestVmm::Standalone { address, spi },
            };
            let made = Typed::new(&nic)?.with(|request| guest_overlay(request, vmm))?;
            give(&made, output.as_deref())
        }
        DtCommand::Apply { base, overlays, output } => {
            let mut tree = read_tree(&base)?;
            for path in &overlays {
                let overlay = read_tree(path)?;
                tree = dt_overlay::apply(&tree, &overlay)
                    .map_err(|error| DtError::tree(path, error))?;
            }
            give(&tree, output.as_deref())
        }
        DtCommand::Explain { nic, svg, json } => explain(&nic, svg, json),
    }
}

/// A NIC as it was typed, with everything read.
struct Typed {
    path: PathBuf,
    tree: Tree,
    boards: Vec<Board>,
    nic: String,
    choices: Choices,
}

impl Typed {
    fn new(arguments: &NicArgs) -> Result<Self, DtError> {
        let path = arguments.tree.clone().unwrap_or_else(|| platform::TREE.into());
        if arguments.tree.is_none() && !path.exists() {
            return Err(DtError::NoTree);
        }
        let choices = Choices {
            keep_away: arguments.keep_away.map(Into::into),
            iommu: arguments.iommu.clone(),
            streams: arguments.streams.iter().map(|stream| stream.0.clone()).collect(),
            clocks: arguments.clocks.iter().cloned().collect(),
            mac: arguments.mac.map(|mac| mac.octets()),
        };
        let boards = boards(&arguments.boards)?;
        Ok(Self { tree: read_tree(&path)?, boards, nic: arguments.nic.clone(), choices, path })
    }

    fn with<T>(
        &self,
        what: impl FnOnce(&Request<'_>) -> Result<T, TreeError>,
    ) -> Result<T, DtError> {
        let board = Board::of(&self.boards, &self.tree);
        let request = Request { tree: &self.tree, nic: &self.nic, board, choices: &self.choices };
        what(&request).map_err(|error| DtError::tree(&self.path, error))
    }
}

/// The named board files, then those in /etc/netvm/boards, then the built-in ones.
fn boards(files: &[PathBuf]) -> Result<Vec<Board>, DtError> {
    let mut all = Vec::new();
    for path in files {
        let bytes = read(path)?;
        let text = String::from_utf8_lossy(&bytes);
        all.push(Board::parse(&text).map_err(|error| DtError::tree(path, error))?);
    }
    all.extend(platform::boards(&Sysfs::new("/"))?);
    Ok(all)
}

fn read(path: &Path) -> Result<Vec<u8>, DtError> {
    let file = |error| DtError::File { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    let opened = fs::File::open(path).map_err(file)?;
    opened.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(file)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len <= FILE_MAX) {
        Ok(bytes)
    } else {
        Err(DtError::Size { path: path.to_owned() })
    }
}

fn read_tree(path: &Path) -> Result<Tree, DtError> {
    Tree::parse(&read(path)?).map_err(|error| DtError::tree(path, error))
}

/// Writes a tree to the file, or prints its text.
fn give(tree: &Tree, output: Option<&Path>) -> Result<Exit, Failure> {
    let Some(path) = output else { return print(&tree.to_dts()) };
    fs::write(path, tree.to_dtb())
        .map_err(|error| DtError::File { path: path.to_owned(), error })?;
    Ok(Exit::Done)
}

/// A tree's survey.
#[derive(Debug, Serialize)]
struct Surveyed {
    /// The file.
    file: PathBuf,
    /// `compatible` of its root.
    board: Vec<String>,
    /// The board file that adds to it.
    known_as: Option<String>,
    /// Its NICs.
    nics: Vec<PlatformNic>,
}

fn survey(path: Option<PathBuf>, files: &[PathBuf], json: bool) -> Result<Exit, Failure> {
    let boards = boards(files)?;
    let path = match path {
        Some(path) => path,
        None if Path::new(platform::TREE).exists() => platform::TREE.into(),
        None => return Err(DtError::NoTree.into()),
    };
    let mut files = Vec::new();
    collect(&path, &mut files, DEPTH)?;
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let tree = read_tree(&file)?;
        let board = Board::of(&boards, &tree);
        let nics = dt_overlay::survey(&tree, board).map_err(|error| DtError::tree(&file, error))?;
        all.push(Surveyed {
            board: tree.board().into_iter().map(str::to_owned).collect(),
            known_as: board.map(|board| board.name.clone()),
            nics,
            file,
        });
    }
    if json { print_json(&all) } else { print(&table::survey(&all)) }
}

/// The file itself, or the `.dtb` files in a directory and below.
fn collect(path: &Path, files: &mut Vec<PathBuf>, depth: usize) -> Result<(), DtError> {
    let wrong = |error| DtError::File { path: path.to_owned(), error };
    if !fs::metadata(path).map_err(wrong)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        // Links lead elsewhere, or in circles.
        let kind = fs::symlink_metadata(&path).map_err(wrong)?.file_type();
        let tree = path.extension().is_some_and(|it| it == "dtb") && kind.is_file();
        if tree || (kind.is_dir() && depth > 0) {
            collect(&path, files, depth - 1)?;
        }
    }
    Ok(())
}

fn explain(arguments: &NicArgs, svg: bool, json: bool) -> Result<Exit, Failure> {
    let typed = Typed::new(arguments)?;
    let board = Board::of(&typed.boards, &typed.tree);
    let all = dt_overlay::survey(&typed.tree, board)
        .map_err(|error| DtError::tree(&typed.path, error))?;
    let nic = dt_overlay::overlay::choose(&typed.tree, &all, &typed.nic)
        .map_err(|error| DtError::tree(&typed.path, error))?;
    if json {
        return print_json(nic);
    }
    if svg {
        return print(&svg::Drawing::new(nic, board).to_string());
    }
    // The same overlays that would be written, so that the words cannot differ from them.
    let host = typed.with(host_overlay);
    print(&explain::words(nic, board, host.ok().as_ref()))
}

//! The steps of the write and publish protocols by name, and the disk they are made on.
//!
//! Each change of the disk on which durability depends is one [`Step`], made through a [`Disk`].
//! [`RealDisk`] just makes it. Tests put another in its place, which kills the process before or
//! after a step, takes a picture of the disk, fails the step or leaves it out.

use std::fmt::Debug;
use std::io;

/// One change of the disk. The order of the variants is the order of the protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// `fsync` of the finished segment, still under its temporary name.
    SyncSegment,
    /// Rename of the segment to its final name; never replaces.
    RenameSegment,
    /// `fsync` of the segment's directory.
    SyncSegmentDir,
    /// The ticket's bytes into `.tmp/`.
    WriteTicket,
    /// `fsync` of the ticket.
    SyncTicket,
    /// Rename of the ticket into the queue; never replaces.
    RenameTicket,
    /// `fsync` of the queue directory.
    SyncQueueDir,
    /// Rename of the ticket into `active/`, its lock held.
    ClaimTicket,
    /// `fsync` of `active/` and of where the ticket came from.
    SyncClaim,
    /// `fsync` of the output, still under its temporary name.
    SyncOutput,
    /// Rename of the output to its final name; never replaces.
    RenameOutput,
    /// `fsync` of the output's directory.
    SyncOutputDir,
    /// The receipt's bytes under a temporary name.
    WriteReceipt,
    /// `fsync` of the receipt.
    SyncReceipt,
    /// Rename of the receipt to its name; never replaces.
    RenameReceipt,
    /// `fsync` of `done/`.
    SyncReceiptDir,
    /// The original's bytes into the backup directory under a temporary name.
    WriteBackup,
    /// `fsync` of the backup.
    SyncBackup,
    /// Rename to the backup's name; never replaces. Of the original itself where both lie on one
    /// file system.
    RenameBackup,
    /// `fsync` of the backup's directory.
    SyncBackupDir,
    /// Unlink of the original.
    UnlinkOriginal,
    /// `fsync` of the original's directory.
    SyncOriginalDir,
    /// Unlink of the ticket in `active/`.
    UnlinkTicket,
    /// `fsync` of `active/`.
    SyncActiveDir,
    /// The why file under a temporary name.
    WriteWhy,
    /// `fsync` of the why file.
    SyncWhy,
    /// Rename of the why file to its name.
    RenameWhy,
    /// `fsync` of the why file's directory.
    SyncWhyDir,
    /// Rename of the ticket out of `active/` or `failed/` into another state, its lock held.
    MoveTicket,
    /// `fsync` of both directories of that rename.
    SyncMove,
}

impl Step {
    /// The segment's way into the queue, in order.
    pub const WRITE: [Self; 7] = [
        Self::SyncSegment,
        Self::RenameSegment,
        Self::SyncSegmentDir,
        Self::WriteTicket,
        Self::SyncTicket,
        Self::RenameTicket,
        Self::SyncQueueDir,
    ];

    /// From claim to completion with the original deleted, in order.
    pub const PUBLISH: [Self; 13] = [
        Self::ClaimTicket,
        Self::SyncClaim,
        Self::SyncOutput,
        Self::RenameOutput,
        Self::SyncOutputDir,
        Self::WriteReceipt,
        Self::SyncReceipt,
        Self::RenameReceipt,
        Self::SyncReceiptDir,
        Self::UnlinkOriginal,
        Self::SyncOriginalDir,
        Self::UnlinkTicket,
        Self::SyncActiveDir,
    ];

    /// The steps between [`Step::SyncReceiptDir`] and [`Step::UnlinkOriginal`] that copying to a
    /// backup on another file system adds, in order.
    pub const BACKUP: [Self; 4] = [
        Self::WriteBackup,
        Self::SyncBackup,
        Self::RenameBackup,
        Self::SyncBackupDir,
    ];
}

/// Where steps are made.
pub trait Disk: Debug + Send + Sync {
    /// Makes one step by calling `action`, which does the whole of it.
    ///
    /// # Errors
    /// What `action` gives.
    fn perform(&self, step: Step, action: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()>;
}

/// The disk as it is: every step is made, nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn perform(&self, _step: Step, action: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        action()
    }
}

/// The four steps that bring a new file under its name.
#[derive(Clone, Copy, Debug)]
pub struct NewFileSteps {
    pub(crate) write: Step,
    pub(crate) sync: Step,
    pub(crate) rename: Step,
    pub(crate) sync_dir: Step,
}

impl NewFileSteps {
    pub(crate) const TICKET: Self = Self {
        write: Step::WriteTicket,
        sync: Step::SyncTicket,
        rename: Step::RenameTicket,
        sync_dir: Step::SyncQueueDir,
    };
    pub(crate) const RECEIPT: Self = Self {
        write: Step::WriteReceipt,
        sync: Step::SyncReceipt,
        rename: Step::RenameReceipt,
        sync_dir: Step::SyncReceiptDir,
    };
    pub(crate) const BACKUP: Self = Self {
        write: Step::WriteBackup,
        sync: Step::SyncBackup,
        rename: Step::RenameBackup,
        sync_dir: Step::SyncBackupDir,
    };
    pub(crate) const WHY: Self = Self {
        write: Step::WriteWhy,
        sync: Step::SyncWhy,
        rename: Step::RenameWhy,
        sync_dir: Step::SyncWhyDir,
    };
}

/// The three steps that bring a finished file from its temporary name to its final one.
#[derive(Clone, Copy, Debug)]
pub struct CommitSteps {
    pub(crate) sync: Step,
    pub(crate) rename: Step,
    pub(crate) sync_dir: Step,
}

impl CommitSteps {
    /// For a recorded segment.
    pub const SEGMENT: Self = Self {
        sync: Step::SyncSegment,
        rename: Step::RenameSegment,
        sync_dir: Step::SyncSegmentDir,
    };
    /// For a processed video.
    pub const OUTPUT: Self = Self {
        sync: Step::SyncOutput,
        rename: Step::RenameOutput,
        sync_dir: Step::SyncOutputDir,
    };
}

impl From<NewFileSteps> for CommitSteps {
    fn from(steps: NewFileSteps) -> Self {
        Self {
            sync: steps.sync,
            rename: steps.rename,
            sync_dir: steps.sync_dir,
        }
    }
}

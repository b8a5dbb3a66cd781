//! The arena: the format of the shared memory, its allocator, holders and recovery.
//!
//! The design, with definitions, invariants and what a crash leaves behind, is in `docs/design/arena.md`. From the
//! bottom up: [`layout`] says where everything lies, [`meta`] is the checked access to it, [`slots`] the processes (the states of one: [`slot_word`]),
//! [`heap`] the free space (what decides about a block: [`block_life`]), [`parcels`] references from no process ([`parcel_word`]), [`garbage`] what nobody needs, [`sweep`] takes from
//! the dead, [`recovery`] rebuilds what a crash damaged, [`data`] maps the bytes, [`budget`] decides what may be
//! committed, and [`arena`] puts them together behind [`Arena`].

mod arena;
mod block_life;
mod budget;
mod data;
mod door;
mod error;
mod garbage;
mod heap;
mod huge_pages;
mod layout;
mod look;
mod membership;
mod meta;
#[cfg(all(test, loom))]
mod models;
mod orphans;
mod parcel_word;
mod parcels;
mod place;
mod recovery;
mod registry;
mod slot_word;
mod slots;
mod stats;
mod sweep;
mod verify;

#[cfg(fuzzing)]
pub use arena::fuzzing::{Draught, Specimen};
pub use arena::{Arena, Block, Contents, Draft, JoinHint, Options};
pub use data::{Access, CHUNK, PrivateCopy, Shares};
pub use error::{ArenaError, Trouble};
pub use layout::{ArenaId, Geometry};
pub use look::Sighting;
pub use meta::BlockId;
pub use parcels::{Owned, ParcelId};
pub use slots::Viewer;
pub use stats::{Details, FreeSpace, LargeBlock, Member, Stats};

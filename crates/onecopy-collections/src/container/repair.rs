//! What who takes over the lock of a dead writer does.

use std::collections::HashSet;
use std::sync::Arc;

use onecopy_arena::{ArenaError, ParcelId};

use super::body::Body;
use super::view::Kind;
use super::{ContainerError, Open};
use crate::{list, map};

impl Open<'_> {
    /// Makes caches anew and lets go of all parcels that the container does not know: whoever made them died before they
    /// were published, or after what they belonged to was taken out. All others make parcels only under the lock.
    pub(super) fn repair(&self) -> Result<(), ContainerError> {
        let body = self.arc()?;
        if self.kind == Kind::Map {
            map::recount(body.view())?;
        }
        let known = self.known_parcels(&body)?;
        for owned in self.block.owned()? {
            if !known.contains(&owned.parcel) {
                self.block.arena().discard(owned.parcel)?;
            }
        }
        Ok(())
    }

    fn known_parcels(&self, body: &Arc<Body>) -> Result<HashSet<ParcelId>, ArenaError> {
        let view = body.view();
        let mut known = HashSet::from([view.parcel()]);
        let mut learn = |at: u64| {
            known.extend(view.record(at)?.enclosed().map(|enclosed| enclosed.parcel));
            Ok(())
        };
        match self.kind {
            Kind::Map => map::each_place(view, &mut learn)?,
            Kind::List => list::each_place(view, &mut learn)?,
        }
        Ok(known)
    }
}

//! What the checks judge: the policy, what its tests show, what its record shows, and what a running node says.

use jiff::Timestamp;

use super::drills::RecordFacts;
use crate::admin::launch_check::NodeFacts;
use crate::cli::test::evidence::Evidence;
use crate::policy::document::Document;
use crate::policy::source::Place;
use crate::policy::{At, Policy, Route};

/// What the checks judge. They are pure: everything else has been looked at before.
pub(super) struct Facts<'a> {
    pub(super) policy: &'a Policy,
    /// The policy as written.
    pub(super) document: &'a Document,
    /// The root of the policy as written.
    pub(super) at: At<'a>,
    /// What its tests show; the error says why there are none.
    pub(super) tests: Result<Evidence, String>,
    /// What its record shows; the error says why it was not looked at.
    pub(super) record: Result<RecordFacts, String>,
    /// What a running node says; the error says why none was asked.
    pub(super) node: Result<NodeFacts, String>,
    pub(super) now: Timestamp,
}

impl Facts<'_> {
    /// The routes of the policy's APIs, without those that this process answers itself.
    pub(super) fn routes(&self) -> impl Iterator<Item = &Route> {
        self.policy.routes().iter().map(|route| &**route).filter(|route| route.own.is_none())
    }

    /// Where the policy has a route: by itself, or through the description of its API.
    pub(super) fn place_of(&self, route: &Route) -> Place {
        let api = self.at.key("apis").key(route.api().name());
        let written = api.key("routes").key(route.name());
        if written.present() { written.key_place() } else { api.key("openapi").key_place() }
    }
}

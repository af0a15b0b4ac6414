//! The fleet that the server is of.

use gatekey::{Conflict, Error};

use crate::answers;
use crate::call::{Answer, Call, Endpoint, schema_of};
use crate::operator::Right;
use crate::problem::Problem;
use crate::wire::SnapshotRequest;

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get(
        "/v1/fleet",
        "showFleet",
        "Show the servers of the fleet, and how far each has come",
        schema_of::<answers::Fleet>,
        show,
    ),
    Endpoint::post(
        "/v1/fleet/snapshot",
        "putFleetSnapshot",
        "Put a snapshot into the log, for new servers to begin with",
        Right::Administer,
        schema_of::<SnapshotRequest>,
        schema_of::<answers::SnapshotPut>,
        snapshot,
    )
    .maybe_empty(),
];

fn show(call: &mut Call) -> Result<Answer, Problem> {
    let asked = call.engine.fleet_servers();
    let status = call.engine.fleet_status();
    let status = status.ok_or(Error::Conflict(Conflict::Alone))?;
    // That the log is away is what the caller may want to know.
    let (servers, servers_error) = match asked {
        Ok(servers) => (servers, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    Answer::ok(&answers::Fleet {
        server: answers::OwnStatus {
            behind: status.behind(),
            status,
        },
        servers,
        servers_error,
    })
}

fn snapshot(call: &mut Call) -> Result<Answer, Problem> {
    let SnapshotRequest { trim } = call.body()?;
    let shared = call.shared.clone();
    let _making = shared.one_backup()?;
    let before = call.engine.fleet_snapshots()?;
    let snapshot = call.engine.put_fleet_snapshot()?;
    let through = before.last().map(|before| before.position).filter(|_| trim);
    if let Some(through) = through {
        call.engine.trim_fleet_log(through)?;
    }
    Answer::ok(&answers::SnapshotPut {
        snapshot,
        trimmed_through: through,
    })
}

//! Owns what the two engines of one prefill are told, by the connector between them.
//!
//! Refuses to know how they are asked.

use super::PrefillOutcome;
use crate::openai::{
    KEEP_BY_NIXL, KvTransfer, KvTransferId, MooncakeRank, TokenUsage, is_cut_at_its_limit, transfer_of,
};
use crate::policy::KvConnector;
use bytes::Bytes;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

/// One prompt's way from one engine to another.
pub(super) struct HandOver {
    connector: KvConnector,
    id: KvTransferId,
}

/// The engine that has computed a prompt.
#[derive(Clone, Copy)]
pub(super) struct PrefillEngine<'a> {
    pub(super) address: IpAddr,
    /// Where its connector tells ranks apart.
    pub(super) rank: Option<&'a MooncakeRank>,
}

impl HandOver {
    pub(super) fn new(connector: KvConnector) -> Self {
        Self { connector, id: KvTransferId(format!("{:032x}", rand::random::<u128>())) }
    }

    /// What the engine that computes the prompt is told to keep it for the other.
    pub(super) fn keep(&self) -> Option<Cow<'static, [u8]>> {
        match self.connector {
            KvConnector::Nixl => Some(Cow::Borrowed(KEEP_BY_NIXL)),
            KvConnector::Offloading { .. } => Some(Cow::Owned(self.id.keep_by_offloading())),
            KvConnector::Mooncake { .. } => Some(Cow::Owned(self.id.keep_by_mooncake())),
            KvConnector::SharedStorage | KvConnector::Sglang { .. } => None,
        }
    }

    /// The port of the bootstrap server that is asked which ranks there are.
    pub(super) fn rank_server(&self) -> Option<u16> {
        match self.connector {
            KvConnector::Mooncake { bootstrap_port } => Some(bootstrap_port),
            _ => None,
        }
    }

    /// Says what has become of the prompt by the answer of the engine that computed it.
    pub(super) fn outcome(
        &self,
        engine: PrefillEngine<'_>,
        answer: &[u8],
        usage: Option<TokenUsage>,
    ) -> PrefillOutcome {
        let at = |port| SocketAddr::new(engine.address, port);
        let transfer = match (self.connector, transfer_of(answer)) {
            (_, KvTransfer::Malformed) => return PrefillOutcome::Local("malformed"),
            (KvConnector::SharedStorage | KvConnector::Sglang { .. }, _) => None,
            (KvConnector::Nixl, KvTransfer::Kept(transfer)) => Some(Bytes::copy_from_slice(transfer)),
            (KvConnector::Nixl, KvTransfer::Nothing) => return PrefillOutcome::Local("nothing_kept"),
            (KvConnector::Offloading { port }, _) => Some(self.id.fetch_by_offloading(at(port)).into()),
            (KvConnector::Mooncake { bootstrap_port }, _) => match engine.rank {
                // Of an answer that ended by itself nothing is kept, and the other engine would wait for it for minutes.
                Some(rank) if is_cut_at_its_limit(answer) => {
                    Some(self.id.fetch_by_mooncake(at(bootstrap_port), rank).into())
                }
                _ => return PrefillOutcome::Local("nothing_kept"),
            },
        };
        PrefillOutcome::Remote { transfer, usage }
    }
}

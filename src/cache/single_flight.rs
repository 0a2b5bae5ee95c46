//! Single flight: of equal requests at one time only the leader goes to the upstream, and the others wait for its answer.
//! Refuses to know what is requested and how an answer is made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::entry::{CacheKey, CachedAnswer};

/// The most requests that wait for one leader.
const MAX_FOLLOWERS: usize = 256;

/// The most leaders at a time.
const MAX_LEADERS: usize = 4096;

/// What a request does where an equal one may be under way.
#[derive(Debug)]
pub enum FlightRole {
    /// It goes to the upstream, and publishes the answer to its followers.
    Lead(FlightLeader),
    /// It waits for another's answer.
    Follow(FlightFollower),
    /// It goes to the upstream for itself: there are too many followers or leaders already.
    Alone,
}

/// What followers see of their leader.
#[derive(Debug, Clone)]
enum FlightState {
    UnderWay,
    Landed(Arc<CachedAnswer>),
    /// The leader ended without an answer that may be shared.
    Lost,
}

type UnderWay = HashMap<CacheKey, Arc<watch::Sender<FlightState>>>;

/// The leaders under way, by the key of their requests.
#[derive(Debug, Default)]
pub(super) struct SingleFlight {
    under_way: Arc<Mutex<UnderWay>>,
}

impl SingleFlight {
    /// Leads where no request of that key does, else follows.
    pub(super) fn join(&self, key: &CacheKey) -> FlightRole {
        let mut under_way = lock(&self.under_way);
        match under_way.get(key) {
            Some(sender) if sender.receiver_count() >= MAX_FOLLOWERS => FlightRole::Alone,
            Some(sender) => FlightRole::Follow(FlightFollower { receiver: sender.subscribe() }),
            None if under_way.len() >= MAX_LEADERS => FlightRole::Alone,
            None => {
                let sender = Arc::new(watch::Sender::new(FlightState::UnderWay));
                under_way.insert(*key, Arc::clone(&sender));
                FlightRole::Lead(FlightLeader { key: *key, sender, under_way: Arc::clone(&self.under_way) })
            }
        }
    }
}

/// The leader's guard; dropped without an answer, it lets the followers go to the upstream themselves.
#[derive(Debug)]
pub struct FlightLeader {
    key: CacheKey,
    sender: Arc<watch::Sender<FlightState>>,
    under_way: Arc<Mutex<UnderWay>>,
}

impl FlightLeader {
    /// Hands the answer to all followers.
    pub fn publish(self, answer: CachedAnswer) {
        self.sender.send_replace(FlightState::Landed(Arc::new(answer)));
    }
}

impl Drop for FlightLeader {
    fn drop(&mut self) {
        lock(&self.under_way).remove(&self.key);
        self.sender.send_if_modified(|flight| {
            let is_lost = matches!(flight, FlightState::UnderWay);
            if is_lost {
                *flight = FlightState::Lost;
            }
            is_lost
        });
    }
}

/// One follower's place; dropped, it is free for another.
#[derive(Debug)]
pub struct FlightFollower {
    receiver: watch::Receiver<FlightState>,
}

impl FlightFollower {
    /// Waits for the leader's answer, at most so long; `None` where the request must go to the upstream itself.
    pub async fn wait(mut self, most: Duration) -> Option<Arc<CachedAnswer>> {
        let landed = self.receiver.wait_for(|flight| !matches!(flight, FlightState::UnderWay));
        match &*tokio::time::timeout(most, landed).await.ok()?.ok()? {
            FlightState::Landed(answer) => Some(Arc::clone(answer)),
            FlightState::Lost | FlightState::UnderWay => None,
        }
    }
}

/// Locks a map that stays valid after every statement, so that another thread's panic does not spoil it.
fn lock(under_way: &Mutex<UnderWay>) -> MutexGuard<'_, UnderWay> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::AnswerOrigin;
    use bytes::Bytes;

    const KEY: CacheKey = CacheKey { scope: [1; 32], exact: [2; 32] };
    const LONG: Duration = Duration::from_secs(60);

    fn lead(single_flight: &SingleFlight) -> FlightLeader {
        match single_flight.join(&KEY) {
            FlightRole::Lead(guard) => guard,
            other => panic!("{other:?}"),
        }
    }

    fn follow(single_flight: &SingleFlight) -> FlightFollower {
        match single_flight.join(&KEY) {
            FlightRole::Follow(follower) => follower,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn followers_get_the_leaders_answer() {
        let single_flight = SingleFlight::default();
        let leader = lead(&single_flight);
        let (first, second) = (follow(&single_flight), follow(&single_flight));
        assert_eq!(leader.sender.receiver_count(), 2);
        let waiting = tokio::spawn(first.wait(LONG));
        let answer = CachedAnswer { body: Bytes::from_static(b"yes"), origin: AnswerOrigin::default() };
        leader.publish(answer.clone());
        assert_eq!(waiting.await.unwrap().as_deref(), Some(&answer));
        assert_eq!(second.wait(LONG).await.as_deref(), Some(&answer));
        lead(&single_flight);
    }

    #[tokio::test]
    async fn a_leader_without_an_answer_lets_its_followers_go() {
        let single_flight = SingleFlight::default();
        let leader = lead(&single_flight);
        let follower = follow(&single_flight);
        drop(leader);
        assert_eq!(follower.wait(LONG).await, None);
        lead(&single_flight);
    }

    #[tokio::test]
    async fn a_follower_waits_no_longer_than_its_timeout() {
        let single_flight = SingleFlight::default();
        let leader = lead(&single_flight);
        assert_eq!(follow(&single_flight).wait(Duration::from_millis(1)).await, None);
        assert_eq!(leader.sender.receiver_count(), 0);
    }

    #[test]
    fn requests_beyond_the_limits_go_alone() {
        let single_flight = SingleFlight::default();
        let leader = lead(&single_flight);
        let followers: Vec<_> = (0..MAX_FOLLOWERS).map(|_| follow(&single_flight)).collect();
        assert!(matches!(single_flight.join(&KEY), FlightRole::Alone));
        drop(followers);
        follow(&single_flight);
        drop(leader);
        let leaders: Vec<_> = (0..MAX_LEADERS as u64)
            .map(|number| {
                let mut exact = [0; 32];
                exact[..8].copy_from_slice(&number.to_le_bytes());
                single_flight.join(&CacheKey { scope: [0; 32], exact })
            })
            .collect();
        assert!(leaders.iter().all(|role| matches!(role, FlightRole::Lead(_))));
        assert!(matches!(single_flight.join(&KEY), FlightRole::Alone));
    }
}

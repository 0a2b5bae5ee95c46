//! Owns who asks the upstream where several ask the same at once: one leads, the others wait for its answer.
//! Refuses to know what is asked and how an answer is made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::entry::{Answer, Key};

/// The most requests that wait for one leader.
const MOST_FOLLOWERS: usize = 256;

/// The most leaders at a time.
const MOST_LEADERS: usize = 4096;

/// What a request does where others may ask the same.
#[derive(Debug)]
pub enum Turn {
    /// It asks, and hands the answer to those who wait.
    Lead(LeadGuard),
    /// It waits for another's answer.
    Follow(Follower),
    /// It asks for itself: too many wait or lead already.
    Alone,
}

/// How a flight stands.
#[derive(Debug, Clone)]
enum Flight {
    UnderWay,
    Landed(Arc<Answer>),
    /// The leader ended without an answer that others may have.
    Lost,
}

type UnderWay = HashMap<Key, Arc<watch::Sender<Flight>>>;

/// The flights under way.
#[derive(Debug, Default)]
pub(super) struct Flights {
    under_way: Arc<Mutex<UnderWay>>,
}

impl Flights {
    /// Leads where nobody does, else follows.
    pub(super) fn join(&self, key: &Key) -> Turn {
        let mut under_way = lock(&self.under_way);
        match under_way.get(key) {
            Some(sender) if sender.receiver_count() >= MOST_FOLLOWERS => Turn::Alone,
            Some(sender) => Turn::Follow(Follower { receiver: sender.subscribe() }),
            None if under_way.len() >= MOST_LEADERS => Turn::Alone,
            None => {
                let sender = Arc::new(watch::Sender::new(Flight::UnderWay));
                under_way.insert(*key, Arc::clone(&sender));
                Turn::Lead(LeadGuard { key: *key, sender, under_way: Arc::clone(&self.under_way) })
            }
        }
    }
}

/// The leader's duty; dropped without an answer, it sends the followers on their own way.
#[derive(Debug)]
pub struct LeadGuard {
    key: Key,
    sender: Arc<watch::Sender<Flight>>,
    under_way: Arc<Mutex<UnderWay>>,
}

impl LeadGuard {
    /// Hands the answer to all who wait.
    pub fn publish(self, answer: Answer) {
        self.sender.send_replace(Flight::Landed(Arc::new(answer)));
    }

    /// Counts those who wait.
    pub fn followers(&self) -> usize {
        self.sender.receiver_count()
    }
}

impl Drop for LeadGuard {
    fn drop(&mut self) {
        lock(&self.under_way).remove(&self.key);
        self.sender.send_if_modified(|flight| {
            let is_lost = matches!(flight, Flight::UnderWay);
            if is_lost {
                *flight = Flight::Lost;
            }
            is_lost
        });
    }
}

/// A place among those who wait; dropped, it is free for another.
#[derive(Debug)]
pub struct Follower {
    receiver: watch::Receiver<Flight>,
}

impl Follower {
    /// Waits for the leader's answer, at most so long; `None` sends the request on its own way.
    pub async fn wait(mut self, most: Duration) -> Option<Arc<Answer>> {
        let landed = self.receiver.wait_for(|flight| !matches!(flight, Flight::UnderWay));
        match &*tokio::time::timeout(most, landed).await.ok()?.ok()? {
            Flight::Landed(answer) => Some(Arc::clone(answer)),
            Flight::Lost | Flight::UnderWay => None,
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
    use crate::cache::Meta;
    use bytes::Bytes;

    const KEY: Key = Key { scope: [1; 32], exact: [2; 32] };
    const LONG: Duration = Duration::from_secs(60);

    fn lead(flights: &Flights) -> LeadGuard {
        match flights.join(&KEY) {
            Turn::Lead(guard) => guard,
            other => panic!("{other:?}"),
        }
    }

    fn follow(flights: &Flights) -> Follower {
        match flights.join(&KEY) {
            Turn::Follow(follower) => follower,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn followers_get_the_leaders_answer() {
        let flights = Flights::default();
        let leader = lead(&flights);
        let (first, second) = (follow(&flights), follow(&flights));
        assert_eq!(leader.followers(), 2);
        let waiting = tokio::spawn(first.wait(LONG));
        let answer = Answer { body: Bytes::from_static(b"yes"), meta: Meta::default() };
        leader.publish(answer.clone());
        assert_eq!(waiting.await.unwrap().as_deref(), Some(&answer));
        assert_eq!(second.wait(LONG).await.as_deref(), Some(&answer));
        lead(&flights);
    }

    #[tokio::test]
    async fn a_leader_without_an_answer_lets_its_followers_go() {
        let flights = Flights::default();
        let leader = lead(&flights);
        let follower = follow(&flights);
        drop(leader);
        assert_eq!(follower.wait(LONG).await, None);
        lead(&flights);
    }

    #[tokio::test]
    async fn a_follower_waits_no_longer_than_it_is_told() {
        let flights = Flights::default();
        let leader = lead(&flights);
        assert_eq!(follow(&flights).wait(Duration::from_millis(1)).await, None);
        assert_eq!(leader.followers(), 0);
    }

    #[test]
    fn those_who_are_too_many_go_alone() {
        let flights = Flights::default();
        let leader = lead(&flights);
        let followers: Vec<_> = (0..MOST_FOLLOWERS).map(|_| follow(&flights)).collect();
        assert!(matches!(flights.join(&KEY), Turn::Alone));
        drop(followers);
        follow(&flights);
        drop(leader);
        let leaders: Vec<_> = (0..MOST_LEADERS as u64)
            .map(|number| {
                let mut exact = [0; 32];
                exact[..8].copy_from_slice(&number.to_le_bytes());
                flights.join(&Key { scope: [0; 32], exact })
            })
            .collect();
        assert!(leaders.iter().all(|turn| matches!(turn, Turn::Lead(_))));
        assert!(matches!(flights.join(&KEY), Turn::Alone));
    }
}

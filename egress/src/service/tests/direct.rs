//! Where a packet filter has to hold to what is in force.

use tokio::sync::oneshot;

use super::*;
use crate::dial::Own;
use crate::direct::{Direct, Filter};

/// Where somebody waits to hear of rules.
type Waiting = oneshot::Sender<Result<(), String>>;

/// Keeps whoever waits for its rules.
#[derive(Clone, Default)]
struct Slow(Arc<Mutex<Vec<Waiting>>>);

impl Filter for Slow {
    fn give(&self, _: String) -> oneshot::Receiver<Result<(), String>> {
        let (tell, told) = oneshot::channel();
        self.0.lock().unwrap().push(tell);
        told
    }
}

impl Slow {
    fn tell(&self, answer: &Result<(), String>) {
        for tell in self.0.lock().unwrap().drain(..) {
            let _ = tell.send(answer.clone());
        }
    }
}

#[tokio::test]
async fn a_generation_is_in_force_once_the_filter_says_so() {
    let slow = Slow::default();
    let (sandbox, _records) = testing::sandbox(Policy::default());
    let generation = Arc::clone(&sandbox.generation());
    let filter = Box::new(slow.clone());
    let today = jiff::civil::date(2026, 1, 1);
    let beginning = Direct::begin(filter, Vec::new(), generation, Addresses::default(), Own::nobody(), today);
    let beginning = tokio::spawn(beginning);
    while !beginning.is_finished() {
        slow.tell(&Ok(()));
        tokio::task::yield_now().await;
    }
    let direct = beginning.await.unwrap().unwrap();
    let service =
        Service::start_direct(sandbox, Listeners::default(), testing::shared(Limits::default()), direct).unwrap();
    for (number, answer) in [(2, Ok(())), (3, Err("not taken".to_owned()))] {
        service.swap(testing::generation(number, Policy::default()));
        let enforced = tokio::spawn(service.enforced());
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!enforced.is_finished(), "it waits for the filter");
        slow.tell(&answer);
        assert_eq!(enforced.await.unwrap(), answer);
        assert_eq!(service.broken(), answer.err());
    }
    assert_eq!(service.enforced().await, Err("not taken".to_owned()), "nobody is asked any more");
}

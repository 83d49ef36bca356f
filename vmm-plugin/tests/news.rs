//! A device's news through event-manager.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use event_manager::{EventManager, MutEventSubscriber, SubscriberOps};
use vmm_plugin::vfio::fake::{FakeFunction, Shape};
use vmm_plugin::vmm::event_manager::{News, NewsOf};

type Subscriber = Arc<Mutex<dyn MutEventSubscriber>>;

fn waiting(device: &Arc<FakeFunction>) -> (EventManager<Subscriber>, Receiver<News>) {
    let (tell, told) = channel();
    let news = NewsOf::new(device.clone(), move |news| {
        tell.send(news).expect("the test listens");
    });
    let news = news.expect("the fake refuses nothing");
    let mut events = EventManager::new().expect("there is epoll");
    let subscriber: Subscriber = Arc::new(Mutex::new(news));
    events.add_subscriber(subscriber);
    (events, told)
}

#[test]
fn errors_and_requests_are_told_once_each() {
    let device = Arc::new(FakeFunction::new(&Shape::nic()).unwrap());
    let (mut events, told) = waiting(&device);
    events.run_with_timeout(0).unwrap();
    assert!(told.try_recv().is_err());
    device.fail();
    device.fail();
    events.run_with_timeout(1000).unwrap();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [News::Error]);
    device.ask_back();
    events.run_with_timeout(1000).unwrap();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [News::Wanted]);
}

#[test]
fn nobody_listens_after_it_is_dropped() {
    let device = Arc::new(FakeFunction::new(&Shape::nic()).unwrap());
    let before = device.triggers();
    let (events, told) = waiting(&device);
    assert_eq!(device.triggers(), before + 2);
    drop(events);
    assert_eq!(device.triggers(), before);
    device.fail();
    assert!(told.recv().is_err(), "the callback is kept");
}

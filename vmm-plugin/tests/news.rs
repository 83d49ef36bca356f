//! A device's news through event-manager.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use event_manager::{EventManager, MutEventSubscriber, SubscriberOps};
use vmm_plugin::pci::{Function, Options, Report};
use vmm_plugin::vfio::fake::{FakeFunction, Shape};
use vmm_plugin::vmm::event_manager::{FunctionNews, FunctionWatch, News, NewsOf};
use vmm_plugin::vmm::fake::FakeVmm;

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

#[test]
fn function_tells_reports_and_what_its_device_says() {
    let device = Arc::new(FakeFunction::new(&Shape::nic()).unwrap());
    let function = Function::attach(device.clone(), FakeVmm::new().seam(), Options::default());
    let function = Arc::new(function.unwrap());
    let (tell, told) = channel();
    let mut events = EventManager::new().unwrap();
    let watch = FunctionWatch::new(function.clone(), move |news| tell.send(news).unwrap());
    let id = events.add_subscriber(watch);
    events.run_with_timeout(0).unwrap();
    assert_eq!(told.try_iter().count(), 0);
    device.fail();
    device.ask_back();
    device.vanish();
    function.config_read(0, &mut [0; 4]);
    while events.run_with_timeout(100).unwrap() > 0 {}
    let mut told_at_last: Vec<_> = told.try_iter().collect();
    told_at_last.sort_by_key(|news| format!("{news:?}"));
    assert_eq!(
        told_at_last,
        [
            FunctionNews::Device(News::Error),
            FunctionNews::Device(News::Wanted),
            FunctionNews::Report(Report::Gone),
        ]
    );
    drop(events.remove_subscriber(id).unwrap());
    assert_eq!(Arc::strong_count(&function), 1);
}

//! What stands before the swarm: connections that come too fast from one address are closed as
//! soon as they are accepted, before libp2p spends anything on them, and when even that is too
//! much work, the listener rests and the kernel's queue holds the crowd.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::{Multiaddr, Transport};
use tokio::time::{Sleep, sleep};

use super::ip;

/// Connections that one address may begin at once, and then each second; a handshake costs this
/// machine as much as the other one.
const BEGIN_AT_ONCE: f64 = 64.0;
const BEGIN_A_SECOND: f64 = 8.0;
/// Addresses whose connections are counted.
const ADDRESSES_MAX: usize = 1_024;
/// After so many connections were turned away within the time of a rest, the listener rests. The
/// queue of the kernel (1,024) is through in some seconds: an honest agent gets in, later.
const TURNED_AWAY_MAX: u32 = 32;
const REST: Duration = Duration::from_millis(100);

/// How fast connections come from each address: a bucket that fills with time.
#[derive(Debug, Default)]
struct Pace(HashMap<IpAddr, (f64, Instant)>);

impl Pace {
    fn allows(&mut self, now: Instant, from: IpAddr) -> bool {
        let filled = |(left, at): (f64, Instant)| {
            let more = now.duration_since(at).as_secs_f64() * BEGIN_A_SECOND;
            (left + more).min(BEGIN_AT_ONCE)
        };
        if self.0.len() >= ADDRESSES_MAX && !self.0.contains_key(&from) {
            // Whoever has been quiet is as one that was never here.
            self.0.retain(|_, bucket| filled(*bucket) < BEGIN_AT_ONCE);
            if self.0.len() >= ADDRESSES_MAX {
                return false;
            }
        }
        let bucket = self.0.entry(from).or_insert((BEGIN_AT_ONCE, now));
        *bucket = (filled(*bucket), now);
        let allowed = bucket.0 >= 1.0;
        if allowed {
            bucket.0 -= 1.0;
        }
        allowed
    }
}

/// When the listener rests.
#[derive(Debug, Default)]
struct Patience {
    resting: Option<Pin<Box<Sleep>>>,
    turned_away: u32,
    since: Option<Instant>,
}

impl Patience {
    /// Counts a connection that was turned away.
    fn lose(&mut self, now: Instant) {
        if self.since.is_none_or(|since| now.duration_since(since) > REST) {
            (self.since, self.turned_away) = (Some(now), 0);
        }
        self.turned_away += 1;
        if self.turned_away >= TURNED_AWAY_MAX {
            *self = Patience { resting: Some(Box::pin(sleep(REST))), ..Patience::default() };
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(rest) = &mut self.resting {
            ready!(rest.as_mut().poll(cx));
            self.resting = None;
        }
        Poll::Ready(())
    }
}

/// A transport that is listened on with patience; what is dialled passes through it untouched.
pub(super) struct Doorstep<T> {
    inner: T,
    pace: Pace,
    patience: Patience,
}

impl<T> Doorstep<T> {
    pub(super) fn before(inner: T) -> Doorstep<T> {
        Doorstep { inner, pace: Pace::default(), patience: Patience::default() }
    }
}

impl<T: Transport + Unpin> Transport for Doorstep<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        self.inner.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let this = &mut *self;
        loop {
            ready!(this.patience.poll(cx));
            let event = ready!(Pin::new(&mut this.inner).poll(cx));
            let now = Instant::now();
            match &event {
                TransportEvent::Incoming { send_back_addr, .. }
                    if ip(send_back_addr).is_some_and(|from| !this.pace.allows(now, from)) =>
                {
                    this.patience.lose(now);
                }
                _ => return Poll::Ready(event),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use libp2p::tcp;
    use tokio::net::{TcpSocket, TcpStream};
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn an_address_that_connects_too_fast_waits_and_others_do_not() {
        let (mut pace, t0) = (Pace::default(), Instant::now());
        let (one, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let allowed = (0..1_000).filter(|_| pace.allows(t0, one)).count();
        assert_eq!(allowed as f64, BEGIN_AT_ONCE);
        assert!(pace.allows(t0, other));
        let later = t0 + Duration::from_secs(2);
        let allowed = (0..1_000).filter(|_| pace.allows(later, one)).count();
        assert_eq!(allowed as f64, 2.0 * BEGIN_A_SECOND);
        for n in 0..2 * ADDRESSES_MAX {
            pace.allows(later, IpAddr::from((n as u128).to_be_bytes()));
        }
        assert!(pace.0.len() <= ADDRESSES_MAX);
    }

    #[tokio::test]
    async fn the_listener_rests_when_a_crowd_comes_and_wakes_again() {
        let mut patience = Patience::default();
        let now = Instant::now();
        for n in 1..TURNED_AWAY_MAX {
            patience.lose(now);
            assert!(patience.resting.is_none(), "{n}");
        }
        // They come slowly: no crowd.
        patience.lose(now + 2 * REST);
        assert!(patience.resting.is_none());
        for _ in 1..TURNED_AWAY_MAX {
            patience.lose(now + 2 * REST);
        }
        assert!(patience.resting.is_some());
        poll_fn(|cx| patience.poll(cx)).await;
        assert!(patience.resting.is_none());
    }

    type Tcp = Doorstep<tcp::tokio::Transport>;

    /// The address of the next connection that is let through.
    async fn through(transport: &mut Tcp) -> IpAddr {
        loop {
            match poll_fn(|cx| Pin::new(&mut *transport).poll(cx)).await {
                TransportEvent::Incoming { send_back_addr, .. } => {
                    return ip(&send_back_addr).unwrap();
                }
                event => assert!(!matches!(event, TransportEvent::ListenerClosed { .. })),
            }
        }
    }

    #[tokio::test]
    async fn a_flood_from_one_address_keeps_nobody_else_out() {
        let mut transport = Doorstep::before(tcp::tokio::Transport::default());
        let any = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
        transport.listen_on(ListenerId::next(), any).unwrap();
        let listening = match poll_fn(|cx| Pin::new(&mut transport).poll(cx)).await {
            TransportEvent::NewAddress { listen_addr, .. } => listen_addr,
            event => panic!("{event:?}"),
        };
        let to = super::super::socket_addr(&listening).unwrap();
        let mut crowd = Vec::new();
        for _ in 0..3 * BEGIN_AT_ONCE as usize {
            crowd.push(TcpStream::connect(to).await.unwrap());
        }
        let honest = TcpSocket::new_v4().unwrap();
        honest.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let _honest = honest.connect(to).await.unwrap();
        let all = async {
            let mut before = 0;
            while through(&mut transport).await != IpAddr::from([127, 0, 0, 2]) {
                before += 1;
            }
            before
        };
        let before = timeout(Duration::from_secs(60), all).await.expect("it is kept out");
        // The bucket fills a little while they come.
        assert!((64..96).contains(&before), "{before} of the crowd came through");
    }
}

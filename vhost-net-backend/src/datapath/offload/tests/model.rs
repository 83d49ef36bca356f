//! The slow, obvious model, made of etherparse.

use etherparse::{IpHeaders, NetHeaders, PacketHeaders, TcpHeader, TransportHeader, UdpHeader};

/// What a frame with network header at `network` is on a wire, cut into payloads of `size` bytes.
pub fn cut(frame: &[u8], network: usize, size: usize) -> Vec<Vec<u8>> {
    let (ip, rest) = IpHeaders::from_slice(&frame[network..]).unwrap();
    let is_tcp = rest.ip_number == etherparse::IpNumber::TCP;
    let payload = match is_tcp {
        true => TcpHeader::from_slice(rest.payload).unwrap().1,
        false => UdpHeader::from_slice(rest.payload).unwrap().1,
    };
    let count = payload.chunks(size).count();
    payload
        .chunks(size)
        .enumerate()
        .map(|(index, chunk)| {
            let mut ip = ip.clone();
            let transport = if is_tcp {
                let (mut tcp, _) = TcpHeader::from_slice(rest.payload).unwrap();
                let offset = u32::try_from(index * size).unwrap();
                tcp.sequence_number = tcp.sequence_number.wrapping_add(offset);
                tcp.cwr &= index == 0;
                tcp.fin &= index + 1 == count;
                tcp.psh &= index + 1 == count;
                tcp.checksum = match &ip {
                    IpHeaders::Ipv4(header, _) => tcp.calc_checksum_ipv4(header, chunk).unwrap(),
                    IpHeaders::Ipv6(header, _) => tcp.calc_checksum_ipv6(header, chunk).unwrap(),
                };
                tcp.to_bytes().to_vec()
            } else {
                let (mut udp, _) = UdpHeader::from_slice(rest.payload).unwrap();
                udp.length = u16::try_from(8 + chunk.len()).unwrap();
                udp.checksum = match &ip {
                    IpHeaders::Ipv4(header, _) => udp.calc_checksum_ipv4(header, chunk).unwrap(),
                    IpHeaders::Ipv6(header, _) => udp.calc_checksum_ipv6(header, chunk).unwrap(),
                };
                udp.to_bytes().to_vec()
            };
            ip.set_payload_len(transport.len() + chunk.len()).unwrap();
            if let IpHeaders::Ipv4(header, _) = &mut ip {
                let index = u16::try_from(index).unwrap();
                header.identification = header.identification.wrapping_add(index);
                header.header_checksum = header.calc_header_checksum();
            }
            let mut segment = frame[..network].to_vec();
            ip.write(&mut segment).unwrap();
            segment.extend(transport);
            segment.extend(chunk);
            segment
        })
        .collect()
}

/// Panics unless etherparse takes the frame's transport checksum for right.
pub fn assert_checksum(frame: &[u8]) {
    let headers = PacketHeaders::from_ethernet_slice(frame).unwrap();
    let payload = headers.payload.slice();
    let (found, wanted) = match (headers.net.unwrap(), headers.transport.unwrap()) {
        (NetHeaders::Ipv4(ip, _), TransportHeader::Tcp(tcp)) => {
            (tcp.checksum, tcp.calc_checksum_ipv4(&ip, payload).unwrap())
        }
        (NetHeaders::Ipv6(ip, _), TransportHeader::Tcp(tcp)) => {
            (tcp.checksum, tcp.calc_checksum_ipv6(&ip, payload).unwrap())
        }
        (NetHeaders::Ipv4(ip, _), TransportHeader::Udp(udp)) => {
            (udp.checksum, udp.calc_checksum_ipv4(&ip, payload).unwrap())
        }
        (NetHeaders::Ipv6(ip, _), TransportHeader::Udp(udp)) => {
            (udp.checksum, udp.calc_checksum_ipv6(&ip, payload).unwrap())
        }
        other => panic!("neither TCP nor UDP: {other:?}"),
    };
    assert_eq!(found, wanted);
}

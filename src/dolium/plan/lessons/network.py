"""Lessons on whom a container can reach."""

TEXT = """
loopback
  what     switches `lo` on, the device by which the container reaches itself at 127.0.0.1.
  why      a new network namespace has only this device, and it is down.
  here     once the network namespace is there.
  without  a server and its client in one container cannot talk.
  man      netdevice(7) network_namespaces(7)
  see      /proc/PID/net/dev

make_net
  what     makes a network namespace on the host's side, with nothing in it but `lo`, which is switched on.
  why      a namespace belongs to the users of whoever makes it. This one is the host's, so no capability inside the container,
           which has users of its own, reaches its rules or its routes.
  here     before anything else of the container: its rules are to be there before anybody who could break them.
  without  the container would make its own, and could do there what its capabilities let it.
  man      network_namespaces(7) user_namespaces(7) unshare(2)
  see      /proc/PID/ns/net

nft
  what     loads one table of nftables into that network: what was allowed may go out, answers may come in, all else is refused.
  why      a list of whom a program may talk to holds against a program that does not want it to, if the kernel keeps it.
  here     in the container's network, not in the host's: so it is there for this container alone, and goes with it.
  without  the container reaches this host, its neighbours and what is beyond.
  man      nft(8)
  see      /proc/PID/net/dev

resolver
  what     starts a thread that answers the container's questions for names. It knows only those that are allowed, and puts each
           address that it tells into a set of the table, for as long as the answer holds.
  why      an address cannot be allowed before it is known, and DNS changes its mind; and questions for names are messages, too.
  here     its sockets are made before the container is, so the container cannot take their place.
  without  names would lead nowhere, and only addresses could be allowed.
  man      resolv.conf(5) nft(8)
  see      /proc/PID/net/udp

enter_net
  what     dolium-init enters the network namespace that the container is to share.
  why      its child is born there. Later it could not join, having no rights over a namespace of somebody else.
  here     just before the child is born.
  without  the container would be in the host's network.
  man      setns(2) network_namespaces(7)
  see      /proc/PID/ns/net

enter_net back
  what     dolium-init goes back to the network that it came from.
  why      who is in a network keeps it alive; the other container's shall end with that container.
  here     right after the child is born.
  without  a network would outlive all who use it.
  man      setns(2)
  see      /proc/PID/ns/net

netlink
  what     sends the kernel a batch of messages about network devices, over a socket.
  why      that is what ip(8) does too.
  here     when the devices that it is about are there.
  without  the container has no network but `lo`.
  man      rtnetlink(7) netlink(7)
  see      /proc/PID/net/dev

netlink cable
  what     makes a veth pair, a network cable with two ends: one end is plugged into the bridge on the host, the other is made in
           the container's network namespace and called eth0.
  why      a network namespace has no way out; this is the only one.
  here     outside, by the host's root, who may change both networks, after the child has made its own.
  without  the container can reach nobody, which is what --network none means.
  man      veth(4) rtnetlink(7) bridge(8)
  see      /proc/net/dev /proc/PID/net/dev

netlink address
  what     gives eth0 its address, switches it on, and says which way everything else goes: by the bridge.
  why      an address out of a range that this host does not use itself, so nothing of yours is hidden by it.
  here     after the cable is there. dolium-init speaks in the container's network but stays where it is.
  without  the cable is plugged in, but nobody knows where to send a packet.
  man      rtnetlink(7) ip-address(8) ip-route(8)
  see      /proc/PID/net/route /proc/PID/net/fib_trie

netlink wait
  what     asks for the state of both devices until they carry packets; a new port of a bridge takes a millisecond or two.
  why      what is sent before that is lost.
  here     last of the network's steps.
  without  the first packet of a program is lost now and then, and is sent again a second later.
  man      rtnetlink(7)
  see      /proc/net/dev
"""

"""Which addresses are this machine's own. Not here: opening sockets."""

import ipaddress


def is_loopback(host: str) -> bool:
    """True for localhost and loopback addresses; a name that would need a look-up is not one."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

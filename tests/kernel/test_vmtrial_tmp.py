import platform, subprocess
def test_release(): assert platform.release().startswith("7.")
def test_bcc(): import bcc
def test_gre(): subprocess.run(["modprobe","-a","ip_gre","vxlan","wireguard"],check=True)

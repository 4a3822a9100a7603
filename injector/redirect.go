package injector

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Rule leads TCP connections that arrive at one port to another port of the same machine.
type Rule struct{ From, To uint16 }

// ParseRule reads FROM:TO.
func ParseRule(s string) (Rule, error) {
	from, to, ok := strings.Cut(s, ":")
	a, okA := portNumber(from)
	b, okB := portNumber(to)
	if !ok || !okA || !okB || a == b {
		return Rule{}, fmt.Errorf("%q is no rule; want two ports as FROM:TO", clip(s))
	}
	return Rule{uint16(a), uint16(b)}, nil
}

// redirectTable is ours alone: it is replaced whole, so that a second run leaves what the first one left.
const redirectTable = "inpod"

// Redirect sets rules in the network namespace of this process, or in the one that the file descriptor netns names
// when it is not 0. It works on what arrives from outside: connections that begin inside the pod, such as those from
// inpod to the server, go where they say. It needs CAP_NET_ADMIN and talks netlink; no program is started.
//
// The rule is of nftables' NAT in PREROUTING, as "tcp dport FROM redirect to :TO" writes it; see nft(8).
func Redirect(rules []Rule, netns int) error {
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		err := redirectFamily(rules, family, netns)
		if family == nftables.TableFamilyIPv6 && err != nil && withoutIPv6() {
			return nil
		}
		if err != nil {
			return explainNetlink(err)
		}
	}
	return nil
}

func redirectFamily(rules []Rule, family nftables.TableFamily, netns int) error {
	conn, err := nftables.New(nftables.WithNetNSFd(netns))
	if err != nil {
		return err
	}
	table := &nftables.Table{Name: redirectTable, Family: family}
	conn.AddTable(table) // so that there is one to delete
	conn.DelTable(table)
	conn.AddTable(table)
	accept := nftables.ChainPolicyAccept
	chain := conn.AddChain(&nftables.Chain{
		Name: "prerouting", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest, Policy: &accept,
	})
	for _, r := range rules {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(r.From)},
			&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(r.To)},
			&expr.Redir{RegisterProtoMin: 1, Flags: unix.NF_NAT_RANGE_PROTO_SPECIFIED},
		}})
	}
	return conn.Flush() // one transaction: all of it or nothing
}

// withoutIPv6 tells whether this kernel has none.
func withoutIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return errors.Is(err, os.ErrNotExist)
}

// explainNetlink says what the kernel's answers mean for a pod.
func explainNetlink(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("cannot redirect: %w; the container needs the capability NET_ADMIN, else write inpod.dev/intercept: named, or none", err)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("cannot redirect: %w; this node's kernel lacks nf_tables with NAT and redirect (modules nf_tables, nft_chain_nat, nft_redir), "+
			"else write inpod.dev/intercept: named, or none", err)
	}
	return fmt.Errorf("cannot redirect: %w", err)
}

package sftp

import (
	"encoding/binary"
	"errors"
)

// The packet types of draft-ietf-secsh-filexfer-02, which is version 3.
const (
	typeInit          = 1
	typeVersion       = 2
	typeOpen          = 3
	typeClose         = 4
	typeRead          = 5
	typeWrite         = 6
	typeLstat         = 7
	typeFstat         = 8
	typeSetstat       = 9
	typeFsetstat      = 10
	typeOpendir       = 11
	typeReaddir       = 12
	typeRemove        = 13
	typeMkdir         = 14
	typeRmdir         = 15
	typeRealpath      = 16
	typeStat          = 17
	typeRename        = 18
	typeReadlink      = 19
	typeSymlink       = 20
	typeStatus        = 101
	typeHandle        = 102
	typeData          = 103
	typeName          = 104
	typeAttrs         = 105
	typeExtended      = 200
	typeExtendedReply = 201
)

// The flags of OPEN.
const (
	flagRead   = 0x01
	flagWrite  = 0x02
	flagAppend = 0x04
	flagCreate = 0x08
	flagTrunc  = 0x10
	flagExcl   = 0x20
)

// The flags of attributes.
const (
	attrSize     = 0x1
	attrOwner    = 0x2
	attrMode     = 0x4
	attrTimes    = 0x8
	attrExtended = 0x80000000
)

const protocolVersion = 3

// What limits@openssh.com announces. OpenSSH's client takes packets of 256 KiB and asks for as much as it may.
const (
	maxPacket  = 256 << 10
	maxData    = 255 << 10
	maxHandles = 1024
)

var errShort = errors.New("packet is too short for its fields")

// parser takes a packet apart. The first fault stays, and everything after it is zero.
type parser struct {
	b   []byte
	err error
}

func (p *parser) take(n uint64) []byte {
	if p.err != nil || n > uint64(len(p.b)) {
		p.err = errShort
		return nil
	}
	out := p.b[:n]
	p.b = p.b[n:]
	return out
}

func (p *parser) uint32() uint32 {
	if b := p.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (p *parser) uint64() uint64 {
	if b := p.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// bytes is a string that is valid until the next packet is read.
func (p *parser) bytes() []byte { return p.take(uint64(p.uint32())) }

func (p *parser) string() string { return string(p.bytes()) }

// attrs are the attributes of a request; flags says which there are.
type attrs struct {
	flags        uint32
	size         uint64
	uid, gid     uint32
	mode         uint32
	atime, mtime uint32
}

func (p *parser) attrs() (a attrs) {
	a.flags = p.uint32()
	if a.flags&attrSize != 0 {
		a.size = p.uint64()
	}
	if a.flags&attrOwner != 0 {
		a.uid, a.gid = p.uint32(), p.uint32()
	}
	if a.flags&attrMode != 0 {
		a.mode = p.uint32()
	}
	if a.flags&attrTimes != 0 {
		a.atime, a.mtime = p.uint32(), p.uint32()
	}
	if a.flags&attrExtended != 0 {
		for n := p.uint32(); n > 0 && p.err == nil; n-- {
			p.bytes()
			p.bytes()
		}
	}
	return a
}

func appendUint32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }

func appendUint64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

func appendString(b []byte, s string) []byte {
	return append(appendUint32(b, uint32(len(s))), s...)
}

func appendAttrs(b []byte, a attrs) []byte {
	b = appendUint32(b, a.flags)
	if a.flags&attrSize != 0 {
		b = appendUint64(b, a.size)
	}
	if a.flags&attrOwner != 0 {
		b = appendUint32(appendUint32(b, a.uid), a.gid)
	}
	if a.flags&attrMode != 0 {
		b = appendUint32(b, a.mode)
	}
	if a.flags&attrTimes != 0 {
		b = appendUint32(appendUint32(b, a.atime), a.mtime)
	}
	return b
}

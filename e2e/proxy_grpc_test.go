package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// grpcEcho is a service without generated code: every message is a StringValue.
type grpcEcho struct {
	ended chan error // why the context of a call of Wait ended
	began chan time.Duration
}

func (e *grpcEcho) unary(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	in := &wrapperspb.StringValue{}
	if err := decode(in); err != nil {
		return nil, err
	}
	md, _ := metadata.FromIncomingContext(ctx)
	_ = grpc.SetHeader(ctx, metadata.Pairs("x-head", strings.Join(md.Get("x-ask"), ",")))
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-tail", "tail", "x-bin-bin", "\x00\x01\xff"))
	if code, ok := strings.CutPrefix(in.Value, "fail "); ok {
		var n uint32
		_, _ = fmt.Sscan(code, &n)
		return nil, status.Error(codes.Code(n), "as you wish: äöü\n%")
	}
	return in, nil
}

func (e *grpcEcho) stream(_ any, s grpc.ServerStream) error {
	for {
		in := &wrapperspb.StringValue{}
		err := s.RecvMsg(in)
		if errors.Is(err, io.EOF) {
			s.SetTrailer(metadata.Pairs("x-tail", "the end"))
			return status.Error(codes.DataLoss, "nothing left")
		}
		if err != nil {
			return err
		}
		if err := s.SendMsg(in); err != nil {
			return err
		}
	}
}

func (e *grpcEcho) count(_ any, s grpc.ServerStream) error {
	in := &wrapperspb.StringValue{}
	if err := s.RecvMsg(in); err != nil {
		return err
	}
	for i := range 1000 {
		if err := s.SendMsg(wrapperspb.String(fmt.Sprint(in.Value, i))); err != nil {
			return err
		}
	}
	return nil
}

func (e *grpcEcho) wait(_ any, s grpc.ServerStream) error {
	in := &wrapperspb.StringValue{}
	if err := s.RecvMsg(in); err != nil {
		return err
	}
	if in.Value != "" { // says something first
		if err := s.SendMsg(in); err != nil {
			return err
		}
	}
	left := time.Duration(0)
	if d, ok := s.Context().Deadline(); ok {
		left = time.Until(d)
	}
	e.began <- left
	<-s.Context().Done()
	e.ended <- s.Context().Err()
	return s.Context().Err()
}

// next waits until a call of Wait has reached the upstream, and says how long that has until the client's deadline.
func (e *grpcEcho) next(t *testing.T) time.Duration {
	t.Helper()
	select {
	case left := <-e.began:
		return left
	case <-time.After(patience):
		t.Fatal("the call does not reach the upstream")
		return 0
	}
}

func (e *grpcEcho) serve(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	srv.RegisterService(&grpc.ServiceDesc{
		ServiceName: "e2e.Echo", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: e.unary}},
		Streams: []grpc.StreamDesc{
			{StreamName: "Stream", Handler: e.stream, ServerStreams: true, ClientStreams: true},
			{StreamName: "Count", Handler: e.count, ServerStreams: true},
			{StreamName: "Wait", Handler: e.wait, ServerStreams: true},
		},
	}, e)
	healthpb.RegisterHealthServer(srv, health.NewServer())
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(srv.Stop)
	return ln.Addr().String()
}

// grpcDial makes a client, which counts its connections where there is a number.
func grpcDial(t *testing.T, addr string, dials *atomic.Int32) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			if dials != nil {
				dials.Add(1)
			}
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Calls of every kind through a route whose health check is gRPC's.
func TestGRPC(t *testing.T) {
	t.Parallel()
	e := &grpcEcho{ended: make(chan error, 10), began: make(chan time.Duration, 10)}
	_, addr := startProxy(t, setup{}, route{"upstream": e.serve(t), "health": "grpc"},
		route{"path": "/e2e.Gone", "upstream": fmt.Sprintf("127.0.0.1:%d", freePort(t)), "health": "off"})
	var dials atomic.Int32
	conn := grpcDial(t, addr, &dials)
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "x-ask", "asked"), 3*patience)
	defer cancel()
	for _, text := range []string{"", "hello", strings.Repeat("x", 3<<20)} {
		var head, tail metadata.MD
		out := &wrapperspb.StringValue{}
		err := conn.Invoke(ctx, "/e2e.Echo/Unary", wrapperspb.String(text), out, grpc.Header(&head), grpc.Trailer(&tail))
		if err != nil || out.Value != text {
			t.Errorf("unary: got %d bytes, %v; want %d", len(out.Value), err, len(text))
		}
		if fmt.Sprint(head.Get("x-head"), tail.Get("x-tail"), tail.Get("x-bin-bin")) != "[asked] [tail] [\x00\x01\xff]" {
			t.Errorf("unary: got the metadata %q and %q", head, tail)
		}
	}
	if n := dials.Load(); n != 1 { // gRPC gives up on one that does not begin to speak within 20 s, and makes another
		t.Errorf("the first calls took %d connections, want 1", n)
	}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		var tail metadata.MD
		err := conn.Invoke(ctx, "/e2e.Echo/Unary", wrapperspb.String(fmt.Sprint("fail ", int(code))), &wrapperspb.StringValue{}, grpc.Trailer(&tail))
		if s := status.Convert(err); s.Code() != code || s.Message() != "as you wish: äöü\n%" || len(tail.Get("x-tail")) == 0 {
			t.Errorf("status %s: got %v with %v", code, err, tail)
		}
	}
	both, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/e2e.Echo/Stream")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		in, out := wrapperspb.String(fmt.Sprint("message ", i)), &wrapperspb.StringValue{}
		if err := both.SendMsg(in); err != nil {
			t.Fatal(err)
		}
		if err := both.RecvMsg(out); err != nil || out.Value != in.Value { // before the next one is sent
			t.Fatalf("bidirectional: got %q, %v; want %q", out.Value, err, in.Value)
		}
	}
	_ = both.CloseSend()
	if err := both.RecvMsg(&wrapperspb.StringValue{}); status.Code(err) != codes.DataLoss || len(both.Trailer().Get("x-tail")) == 0 {
		t.Errorf("bidirectional, at the end: got %v with %v; want DataLoss and the trailer", err, both.Trailer())
	}
	from, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/e2e.Echo/Count")
	if err != nil {
		t.Fatal(err)
	}
	_ = from.SendMsg(wrapperspb.String("n"))
	_ = from.CloseSend()
	for i := range 1001 {
		out := &wrapperspb.StringValue{}
		if err := from.RecvMsg(out); i < 1000 && (err != nil || out.Value != fmt.Sprint("n", i)) || i == 1000 && !errors.Is(err, io.EOF) {
			t.Fatalf("server's stream, message %d: got %q, %v", i, out.Value, err)
		}
	}
	err = conn.Invoke(ctx, "/e2e.Gone/Unary", wrapperspb.String(""), &wrapperspb.StringValue{})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("an upstream that is gone: got %v, want Unavailable", err)
	}
	e.endings(t, conn)
}

// endings are calls that the client ends: by leaving, and by its deadline.
func (e *grpcEcho) endings(t *testing.T, conn *grpc.ClientConn) {
	for _, say := range []string{"", "something"} {
		ctx, cancel := context.WithCancel(t.Context())
		s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/e2e.Echo/Wait")
		if err != nil {
			t.Fatal(err)
		}
		_ = s.SendMsg(wrapperspb.String(say))
		_ = s.CloseSend()
		e.next(t)
		cancel()
		select {
		case <-e.ended: // less than the route's timeout, which would end it too
		case <-time.After(patience / 2):
			t.Fatal("the upstream still works for a client that has gone")
		}
	}
	const limit = 10 * time.Second // enough for the call to reach the upstream, whatever else the machine does
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/e2e.Echo/Wait")
	if err != nil {
		t.Fatal(err)
	}
	_ = s.SendMsg(wrapperspb.String(""))
	_ = s.CloseSend()
	if left := e.next(t); left <= 0 || left > limit {
		t.Errorf("the upstream has %s until the client's deadline of %s", left, limit)
	}
	if err := s.RecvMsg(&wrapperspb.StringValue{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("at the deadline: got %v, want DeadlineExceeded", err)
	}
	<-e.ended
}

// The pod goes while calls go on: each comes to its own end, and the last of them to its status, which stands behind
// everything else.
func TestGRPCDrain(t *testing.T) {
	t.Parallel()
	e := &grpcEcho{}
	a, addr := startProxy(t, setup{env: []string{"INPOD_DRAIN_DELAY=0s", "INPOD_DRAIN_DEADLINE=170s"}}, route{"upstream": e.serve(t)})
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	var calls []grpc.ClientStream
	for range 5 {
		conn := grpcDial(t, addr, nil)
		for range 12 {
			s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/e2e.Echo/Stream")
			if err != nil {
				t.Fatal(err)
			}
			calls = append(calls, s)
		}
	}
	say := func(s grpc.ClientStream, text string) error {
		out := &wrapperspb.StringValue{}
		if err := s.SendMsg(wrapperspb.String(text)); err != nil {
			return err
		}
		if err := s.RecvMsg(out); err != nil || out.Value != text {
			return fmt.Errorf("got %q, %w", out.Value, err)
		}
		return nil
	}
	all := func(do func(s grpc.ClientStream) error) {
		t.Helper()
		errs := make(chan error, len(calls))
		for _, s := range calls {
			go func() { errs <- do(s) }()
		}
		failed, last := 0, error(nil)
		for range calls {
			if err := <-errs; err != nil {
				failed, last = failed+1, err
			}
		}
		if failed > 0 {
			t.Fatalf("%d of %d calls: %v", failed, len(calls), last)
		}
	}
	all(func(s grpc.ClientStream) error { return say(s, "before") })
	if err := a.d.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	a.until("the port is closed", func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	all(func(s grpc.ClientStream) error { return say(s, "while it drains") })
	all(func(s grpc.ClientStream) error {
		_ = s.CloseSend()
		if err := s.RecvMsg(&wrapperspb.StringValue{}); status.Code(err) != codes.DataLoss || len(s.Trailer().Get("x-tail")) == 0 {
			return fmt.Errorf("at the end: %w with %v; want the upstream's own status and trailer", err, s.Trailer())
		}
		return nil
	})
	a.wantExit("exit 0")
}

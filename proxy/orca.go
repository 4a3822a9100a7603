package proxy

import (
	"strconv"

	"github.com/inpod/inpod/proxy/http1"
)

// orcaFormat is how a client wants to hear of the load with each response: Open Request Cost Aggregation, as Envoy, gRPC
// and vLLM speak it. The request's field endpoint-load-metrics-format names it.
type orcaFormat uint8

const (
	orcaNone orcaFormat = iota
	orcaText
	orcaJSON
)

func orcaOf(req *http1.Request) orcaFormat {
	switch string(req.Get("endpoint-load-metrics-format")) {
	case "TEXT", "text":
		return orcaText
	case "JSON", "json":
		return orcaJSON
	}
	return orcaNone
}

// appendORCA adds the load report. Its names are those of the format's definition (xds.data.orca.v3.OrcaLoadReport).
func (x *exchange) appendORCA(dst []byte) []byte {
	running, waiting := x.route.limiter.load()
	use := 0.0
	if x.route.Concurrency > 0 {
		use = float64(running+waiting) / float64(x.route.Concurrency)
	}
	sep := func(text, json string) {
		if x.orca == orcaJSON {
			dst = append(dst, json...)
		} else {
			dst = append(dst, text...)
		}
	}
	dst = append(dst, "endpoint-load-metrics: "...)
	sep("TEXT application_utilization=", `JSON {"application_utilization": `)
	dst = strconv.AppendFloat(dst, use, 'f', 3, 64)
	sep(", named_metrics.in_flight=", `, "named_metrics": {"in_flight": `)
	dst = strconv.AppendInt(dst, int64(running), 10)
	sep(", named_metrics.queued=", `, "queued": `)
	dst = strconv.AppendInt(dst, int64(waiting), 10)
	sep("", "}}")
	return append(dst, "\r\n"...)
}

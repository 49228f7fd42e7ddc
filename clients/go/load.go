package pgquiver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "github.com/pgquiver/pgquiver/clients/go/pgquiverv1"
)

const (
	// A batch is complete at this many bytes or rows: large enough to be fast, small enough to be sent again.
	batchBytes = 1 << 20
	batchRows  = 10_000
	// Batches that are sent and not committed: bounds the memory. The service commits up to 4 MiB at a time.
	unacknowledgedMax = 16
	// Attempts without progress, and the bounds of the wait between them.
	attemptsMax = 10
	waitFirst   = 200 * time.Millisecond
	waitMax     = 30 * time.Second
)

// Target says which ingest a load is.
type Target struct {
	// VectorStoreID is the store, which must exist.
	VectorStoreID string
	// IngestID lets a load go on where an earlier run with the same id and the same rows was interrupted. Required.
	IngestID string
	// Mode says what becomes of rows whose id exists; by default they are refused.
	Mode pb.WriteMode
	// OnProgress, if set, gets the number of committed rows.
	OnProgress func(rowsCommitted int64)
}

// Load loads rows into a store, each exactly once, through interruptions of the network and of the service. Rows are read no
// faster than they are stored, and at most 16 batches of about 1 MiB are in memory. Rows that the service refuses do not stop
// a load: the summary counts them, and lists the first 100. An error of the rows ends the load, which can go on later.
func Load(ctx context.Context, client pb.IngestServiceClient, target Target, rows iter.Seq2[*pb.EmbeddingInput, error]) (*pb.IngestSummary, error) {
	next, stop := iter.Pull2(rows)
	defer stop()
	load := &load{client: client, target: target, next: next}
	load.changed = sync.NewCond(&load.mutex)
	for attempt := 1; ; attempt++ {
		before := load.rowsRead + load.committedSeq
		summary, err := load.runSession(ctx)
		if err == nil || load.failure != nil || ctx.Err() != nil {
			return summary, err
		}
		if load.rowsRead+load.committedSeq > before {
			attempt = 1
		}
		wait, isTransient := readRetry(err)
		if !isTransient || attempt == attemptsMax {
			return nil, err
		}
		// Exponential backoff with jitter: the clients of a restarted service must not all return at once.
		wait = max(wait, time.Duration(rand.Float64()*float64(min(waitMax, waitFirst<<attempt))))
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// load is the state across streams. The mutex guards what the sending goroutine shares with the receiving one.
type load struct {
	client pb.IngestServiceClient
	target Target
	next   func() (*pb.EmbeddingInput, error, bool)

	mutex          sync.Mutex
	changed        *sync.Cond
	unacknowledged []*pb.IngestBatch
	hasEnded       bool
	committedSeq   int64
	rowsRead       int64
	rowsCommitted  int64
	lastSeq        int64
	failure        error
}

// runSession opens one stream, and returns when it has ended and nothing reads rows any more.
func (l *load) runSession(ctx context.Context) (*pb.IngestSummary, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := l.client.IngestSession(ctx)
	if err != nil {
		return nil, err
	}
	open := &pb.IngestOpen{VectorStoreId: l.target.VectorStoreID, IngestId: l.target.IngestID, Mode: l.target.Mode, OnError: pb.OnError_ON_ERROR_SKIP_ROW}
	// When sending fails, receiving says why.
	_ = stream.Send(&pb.IngestRequest{Message: &pb.IngestRequest_Open{Open: open}})
	var sending sync.WaitGroup
	l.hasEnded = false
	summary, err := l.receive(stream, func() { sending.Go(func() { l.send(stream) }) })
	cancel()
	l.end()
	sending.Wait()
	switch {
	case l.failure != nil:
		return nil, l.failure
	case err != nil:
		return nil, err
	case summary.GetState() != pb.IngestState_INGEST_STATE_COMPLETED:
		return nil, status.Error(codes.Unavailable, "the stream ended early")
	}
	return summary, nil
}

func (l *load) receive(stream pb.IngestService_IngestSessionClient, start func()) (*pb.IngestSummary, error) {
	var summary *pb.IngestSummary
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return summary, nil
		} else if err != nil {
			return nil, err
		}
		switch {
		case event.GetOpened() != nil:
			err = l.acknowledge(event.GetOpened().ResumeAfterSeq)
			start()
		case event.GetCommitted() != nil:
			err = l.acknowledge(event.GetCommitted().ThroughSeq)
		case event.GetDraining() != nil:
			l.end()
		case event.GetSummary() != nil:
			summary = event.GetSummary()
			err = l.acknowledge(summary.ThroughSeq)
		}
		if err != nil {
			return nil, err
		}
	}
}

// send sends what is not committed, then further batches, then the end, with the backpressure of the stream.
func (l *load) send(stream pb.IngestService_IngestSessionClient) {
	defer func() { _ = stream.CloseSend() }()
	for seq := int64(0); ; {
		batch, mayGoOn := l.takeAfter(seq)
		if !mayGoOn {
			return
		}
		if batch == nil {
			// The service refuses to complete the ingest when it has counted another number.
			_ = stream.Send(&pb.IngestRequest{Message: &pb.IngestRequest_Finish{Finish: &pb.IngestFinish{Rows: &l.rowsRead}}})
			return
		}
		if stream.Send(&pb.IngestRequest{Message: &pb.IngestRequest_Batch{Batch: batch}}) != nil {
			return
		}
		seq = batch.Seq
	}
}

// takeAfter returns the batch to send after this one; nil: there are no further rows. False: the session has ended.
func (l *load) takeAfter(seq int64) (*pb.IngestBatch, bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for _, kept := range l.unacknowledged {
		if kept.Seq > seq && !l.hasEnded {
			return kept, true
		}
	}
	for {
		for len(l.unacknowledged) >= unacknowledgedMax && !l.hasEnded {
			l.changed.Wait()
		}
		if l.hasEnded {
			return nil, false
		}
		l.mutex.Unlock()
		batch, err := l.readBatch()
		l.mutex.Lock()
		if err != nil {
			l.failure = err
			return nil, false
		}
		if batch == nil {
			return nil, !l.hasEnded
		}
		l.rowsRead += int64(len(batch.Rows))
		if batch.Seq > l.committedSeq {
			l.unacknowledged = append(l.unacknowledged, batch)
			return batch, true
		}
		// An earlier run of this ingest has sent the batch, and the service has committed it.
		l.count(batch)
	}
}

// readBatch cuts the next batch. The cuts depend on the rows only, so that a load that goes on later has the same batches.
func (l *load) readBatch() (*pb.IngestBatch, error) {
	batch, bytes := &pb.IngestBatch{Seq: l.lastSeq + 1}, 0
	for bytes < batchBytes && len(batch.Rows) < batchRows {
		row, err, hasRow := l.next()
		if err != nil {
			return nil, err
		}
		if !hasRow {
			break
		}
		batch.Rows = append(batch.Rows, row)
		bytes += proto.Size(row)
	}
	if len(batch.Rows) == 0 {
		return nil, nil
	}
	l.lastSeq = batch.Seq
	return batch, nil
}

func (l *load) acknowledge(throughSeq int64) error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if throughSeq < l.committedSeq {
		return fmt.Errorf("the service has fewer committed batches than before: was the database replaced?")
	}
	l.committedSeq = throughSeq
	for len(l.unacknowledged) > 0 && l.unacknowledged[0].Seq <= throughSeq {
		l.count(l.unacknowledged[0])
		l.unacknowledged = l.unacknowledged[1:]
	}
	l.changed.Broadcast()
	return nil
}

func (l *load) count(batch *pb.IngestBatch) {
	l.rowsCommitted += int64(len(batch.Rows))
	if l.target.OnProgress != nil {
		l.target.OnProgress(l.rowsCommitted)
	}
}

func (l *load) end() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.hasEnded = true
	l.changed.Broadcast()
}

// readRetry returns how long to wait before the next attempt, at least. False: there is no point in one.
func readRetry(err error) (time.Duration, bool) {
	state, isStatus := status.FromError(err)
	if !isStatus {
		return 0, false
	}
	for _, detail := range state.Details() {
		if retry, isRetry := detail.(*errdetails.RetryInfo); isRetry {
			return retry.RetryDelay.AsDuration(), true
		}
	}
	switch state.Code() {
	case codes.Unavailable, codes.Aborted, codes.Canceled, codes.Internal, codes.DeadlineExceeded, codes.Unknown:
		return 0, true
	}
	return 0, false
}

package pgquiver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pgquiver "github.com/pgquiver/pgquiver/clients/go"
	pb "github.com/pgquiver/pgquiver/clients/go/pgquiverv1"
)

var errDisk = errors.New("the disk is gone")

func address() string { return strings.TrimPrefix(os.Getenv("PGQUIVER_URL"), "http://") }

func makeRows(failAt int) iter.Seq2[*pb.EmbeddingInput, error] {
	return func(yield func(*pb.EmbeddingInput, error) bool) {
		for index := range 4000 {
			if index == failAt {
				yield(nil, errDisk)
				return
			}
			id := fmt.Sprintf("r%d", index)
			row := &pb.EmbeddingInput{Id: &id, Content: strings.Repeat(id, 400), Embedding: []float32{1, float32(index)}}
			if index == 3900 {
				row.Embedding = []float32{1, 2, 3}
			}
			if !yield(row, nil) {
				return
			}
		}
	}
}

func open(t *testing.T, address string) pb.IngestServiceClient {
	t.Helper()
	connection, err := pgquiver.Connect(address, pgquiver.Options{APIKey: os.Getenv("PGQUIVER_API_KEY")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return pb.NewIngestServiceClient(connection)
}

func createStore(t *testing.T) string {
	t.Helper()
	connection, err := pgquiver.Connect(address(), pgquiver.Options{APIKey: os.Getenv("PGQUIVER_API_KEY")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	dimensions := int32(2)
	store, err := pb.NewVectorStoreServiceClient(connection).CreateVectorStore(t.Context(), &pb.CreateVectorStoreRequest{Dimensions: &dimensions})
	if err != nil {
		t.Fatal(err)
	}
	return store.Id
}

func expectLoaded(t *testing.T, summary *pb.IngestSummary, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if summary.RowsWritten != 3999 || summary.RowsRejected != 1 || len(summary.Errors) != 1 || summary.Errors[0].Id != "r3900" {
		t.Fatalf("unexpected summary: %v", summary)
	}
}

func TestLoadsEachRowOnceThroughANetworkThatBreaks(t *testing.T) {
	target := pgquiver.Target{VectorStoreID: createStore(t), IngestID: "broken"}
	network := breakingNetwork(t, 300_000, 2_500_000, 1_500_000)
	summary, err := pgquiver.Load(t.Context(), open(t, network), target, makeRows(-1))
	expectLoaded(t, summary, err)
}

func TestGoesOnWhereAnEarlierRunStopped(t *testing.T) {
	committed := []int64{}
	target := pgquiver.Target{VectorStoreID: createStore(t), IngestID: "again", OnProgress: func(rows int64) { committed = append(committed, rows) }}
	client := open(t, address())
	if _, err := pgquiver.Load(t.Context(), client, target, makeRows(3500)); !errors.Is(err, errDisk) {
		t.Fatalf("expected the error of the rows, but got %v", err)
	}
	summary, err := pgquiver.Load(t.Context(), client, target, makeRows(-1))
	expectLoaded(t, summary, err)
	if committed[len(committed)-1] != 4000 {
		t.Fatalf("the last progress is %v", committed)
	}
}

func TestReturnsWhatNoAttemptCanMend(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := pgquiver.Load(ctx, open(t, address()), pgquiver.Target{VectorStoreID: "nowhere", IngestID: "none"}, makeRows(-1))
	if status.Code(err) != codes.NotFound {
		t.Fatalf("expected NOT_FOUND, but got %v", err)
	}
}

// breakingNetwork is a way to the service on which the first connections break after so many bytes from the client.
func breakingNetwork(t *testing.T, limits ...int64) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for index := 0; ; index++ {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", address())
			if err != nil {
				_ = near.Close()
				continue
			}
			pass := func(sink, source net.Conn, limit int64) {
				_, _ = io.CopyN(sink, source, limit)
				_, _ = near.Close(), far.Close()
			}
			limit := int64(1 << 40)
			if index < len(limits) {
				limit = limits[index]
			}
			go pass(far, near, limit)
			go pass(near, far, 1<<40)
		}
	}()
	return listener.Addr().String()
}

package pgquiver_test

import (
	"os"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// PGQUIVER_PROTOS is a file with the repository's protos as a FileDescriptorSet.
func TestTheGeneratedCodeIsThatOfTheProtos(t *testing.T) {
	data, err := os.ReadFile(os.Getenv("PGQUIVER_PROTOS"))
	if err != nil {
		t.Fatal(err)
	}
	protos := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(data, protos); err != nil {
		t.Fatal(err)
	}
	if len(protos.File) == 0 {
		t.Fatal("there are no protos")
	}
	for _, expected := range protos.File {
		found, err := protoregistry.GlobalFiles.FindFileByPath(expected.GetName())
		if err != nil {
			t.Fatal(err)
		}
		generated := protodesc.ToFileDescriptorProto(found)
		dropNames(expected)
		dropNames(generated)
		if !proto.Equal(expected, generated) {
			t.Errorf("%s differs: clients/go/generate.sh makes it", expected.GetName())
		}
	}
}

// dropNames drops the JSON names, which follow from the others and which not every compiler keeps.
func dropNames(file *descriptorpb.FileDescriptorProto) {
	var visit func(messages []*descriptorpb.DescriptorProto)
	visit = func(messages []*descriptorpb.DescriptorProto) {
		for _, message := range messages {
			for _, field := range message.Field {
				field.JsonName = nil
			}
			visit(message.NestedType)
		}
	}
	visit(file.MessageType)
	for _, field := range file.Extension {
		field.JsonName = nil
	}
}

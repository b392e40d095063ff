// Classify and explain an image over gRPC with Java 11 or newer and the stubs in TorchServe's jar:
// java -cp .venv/lib/python3.*/site-packages/ts/frontend/model-server.jar GrpcInfer.java [HOST:PORT MODEL IMAGE]
import com.google.protobuf.ByteString;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.nio.file.Files;
import java.nio.file.Path;
import org.pytorch.serve.grpc.inference.InferenceAPIsServiceGrpc;
import org.pytorch.serve.grpc.inference.PredictionsRequest;

public class GrpcInfer {
    public static void main(String[] given) throws Exception {
        String[] defaults = {"127.0.0.1:8083", "efficientnet_lite0", "examples/chelsea.jpg"};
        String[] values = given.length > 0 ? given : defaults;
        ManagedChannel channel = ManagedChannelBuilder.forTarget(values[0]).usePlaintext().build();
        PredictionsRequest request = PredictionsRequest.newBuilder()
            .setModelName(values[1])
            .putInput("data", ByteString.copyFrom(Files.readAllBytes(Path.of(values[2]))))
            .putInput("explain", ByteString.copyFromUtf8("2"))
            .build();
        String answer = InferenceAPIsServiceGrpc.newBlockingStub(channel).predictions(request).getPrediction().toStringUtf8();
        System.out.println(answer);  // JSON; it has `error` if the image or an option is invalid
        channel.shutdown();
    }
}

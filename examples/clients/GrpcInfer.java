// Classify and explain an image over gRPC with a JDK, 11 or newer, and the stubs in TorchServe's jar:
// java -cp .venv/lib/python3.*/site-packages/ts/frontend/model-server.jar GrpcInfer.java [HOST PORT MODEL IMAGE]
import com.google.protobuf.ByteString;
import io.grpc.ManagedChannel;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import org.pytorch.serve.grpc.inference.InferenceAPIsServiceGrpc;
import org.pytorch.serve.grpc.inference.PredictionsRequest;

public class GrpcInfer {
    public static void main(String[] given) throws Exception {
        String[] defaults = {"127.0.0.1", "8083", "efficientnet_lite0", "examples/chelsea.jpg"};
        String[] values = given.length > 0 ? given : defaults;
        // This jar cannot resolve names for ManagedChannelBuilder.forTarget.
        InetSocketAddress address = new InetSocketAddress(values[0], Integer.parseInt(values[1]));
        ManagedChannel channel = NettyChannelBuilder.forAddress(address).usePlaintext().build();
        PredictionsRequest request = PredictionsRequest.newBuilder()
            .setModelName(values[2])
            .putInput("data", ByteString.copyFrom(Files.readAllBytes(Path.of(values[3]))))
            .putInput("explain", ByteString.copyFromUtf8("2"))
            .build();
        var stub = InferenceAPIsServiceGrpc.newBlockingStub(channel);
        System.out.println(stub.predictions(request).getPrediction().toStringUtf8());  // JSON, maybe with `error`
        channel.shutdown();
    }
}

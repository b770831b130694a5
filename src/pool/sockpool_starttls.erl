%%% @private
%%% TLS over a connection in its course: what comes before the handshake, and in which order.
-module(sockpool_starttls).

-export([upgrade/3]).

%% @doc By the connection's owner. `{bad_option, _, _}' and `busy': nothing was done; after any other error nothing goes
%% over the connection any more, in clear least of all.
-spec upgrade(sockpool_nif:lease() | term(), Opts :: term(), timeout()) -> ok | not_a_conn | {error, term()}.
upgrade(Conn, Opts, Timeout) ->
    Deadline = sockpool_wait:deadline(Timeout),
    %% Before the look at the pool, so that what it is shut by comes later.
    Turn = sockpool_tls:turn(),
    case sockpool_nif:info(Conn) of
        {ok, #{transport := tcp, pool := Name}} ->
            case sockpool_option:tls(Opts) of
                {ok, Parsed} -> upgrade(Conn, sockpool_pool:find(Name), Parsed, Turn, Deadline);
                {error, _} = Bad -> Bad
            end;
        {ok, #{transport := Transport}} ->
            {error, {bad_option, transport, Transport}};
        Other ->
            Other
    end.

upgrade(Conn, Pool, Opts, Turn, Deadline) ->
    case sockpool_tls:context(Pool, Opts, Turn, sockpool_wait:left(Deadline)) of
        {ok, Context} ->
            case sockpool_nif:starttls(Conn, Context) of
                ok -> sockpool_wait:handshake(Conn, Deadline);
                Error -> Error
            end;
        {error, _} = Error ->
            %% The server waits for TLS, and whoever overlooks this error must not tell it a password instead.
            _ = sockpool_nif:starttls(Conn, undefined),
            Error
    end.

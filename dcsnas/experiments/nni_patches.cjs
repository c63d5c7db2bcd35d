'use strict';
// Loaded into NNI 3.0's manager before its own code (NODE_OPTIONS=--require). Each patch answers a
// defect; tests/experiments/test_nni_patches*.py fail without it.
const fs = require('fs');
const Module = require('module');
const net = require('net');
const os = require('os');
const path = require('path');

delete process.env.NODE_OPTIONS; // for the manager alone, not for what trials start
process.env.DCSNAS_NNI_MANAGER = String(process.pid); // trials and tuner end when it does

// 1. rest_server/index.js:54 listens on every interface, and NNI has no password.
const host = process.env.DCSNAS_NNI_HOST || '127.0.0.1';
const allowed = JSON.parse(process.env.DCSNAS_NNI_ALLOWED || '[]');
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...args) {
    const [first, second] = args;
    if (first !== null && typeof first === 'object' && first.port !== undefined && !first.host) {
        args[0] = { ...first, host };
    } else if (['number', 'string'].includes(typeof first) && /^\d+$/.test(first)
               && typeof second !== 'string') {
        args.splice(1, 0, host);
    }
    if (allowed.length && args.some((arg) => arg === host || arg?.host === host)) {
        // 7. on every address, for trials elsewhere; only their machines and this one are answered
        this.prependListener('connection', (socket) => {
            const peer = String(socket.remoteAddress).replace(/^::ffff:/, '');
            if (!allowed.includes(peer) && peer !== socket.localAddress?.replace(/^::ffff:/, '')) {
                socket.destroy();
            }
        });
    }
    return listen.apply(this, args);
};

let tunerServer; // the line to the tuner, once there is one

// by the name in the exports of one of NNI's modules
const patches = {
    // 2. training_service/v3/compat.js shows a trial that was killed from outside (out of memory)
    // as cancelled by the user: the exit code of a death by signal is null.
    TrialProcess({ TrialProcess: { prototype } }) {
        const { kill, resolveStop } = prototype;
        prototype.kill = function (...args) {
            this.killedByManager = true;
            return kill.apply(this, args);
        };
        prototype.resolveStop = function (event, code, signal, ...rest) {
            const died = code === null && signal && !this.killedByManager;
            const status = died ? 128 + os.constants.signals[signal] : code;
            return resolveStop.call(this, event, status, signal, ...rest);
        };
    },
    // 3. core/nnimanager.js counts on from the trials that it runs again, not from all, so that
    // after a resume two trials have the same number.
    NNIManager({ NNIManager: { prototype } }) {
        const { addRecoveredTrialJob } = prototype;
        prototype.addRecoveredTrialJob = function (jobs) {
            const recovered = addRecoveredTrialJob.call(this, jobs);
            const numbers = jobs.map((job) => job.sequenceId ?? -1);
            this.experimentProfile.nextSequenceId = 1 + Math.max(-1, ...numbers);
            return recovered;
        };
    },
    // 4. core/tuner_command_channel.js gives the tuner 10 seconds to start, which is too short on a
    // machine that trains; the experiment then stands still.
    getTunerServer(exported) {
        const { getTunerServer } = exported;
        exported.getTunerServer = () => {
            tunerServer = getTunerServer();
            const { connect } = tunerServer;
            tunerServer.init = () => {
                const late = new Error('the tuner did not start; see dispatcher.log');
                setTimeout(() => connect.settled || connect.reject(late), 300000);
                return connect.promise;
            };
            return tunerServer;
        };
    },
    // 5. core/nnimanager.js does not look whether the tuner's process runs: one that dies before it
    // is connected would be waited for as long as a slow one.
    // 6. extensions/nniTensorboardManager.js starts TensorBoard, by the same function, on every
    // interface, and in a shell, which splits a path with a space.
    getTunerProc(exported) {
        const { getTunerProc } = exported;
        exported.getTunerProc = (command, stdio, cwd, env, ...rest) => {
            if (command[0] === 'tensorboard') {
                const [logs, port] = [command[1].replace('--bind_all ', ''), command[2]];
                const python = [global.nni.args.pythonInterpreter, '-m', 'tensorboard.main'];
                const address = allowed.length ? '127.0.0.1' : host; // it answers everybody
                const local = [...python, '--host', address, logs, port];
                return getTunerProc(local, stdio, cwd, env, false, true);
            }
            const tuner = getTunerProc(command, stdio, cwd, env, ...rest);
            tuner.on('exit', () => {
                if (global.nni.shutdown.processStatus === 'stopping') {
                    return;
                }
                const { connect, emitter } = tunerServer;
                const gone = new Error('the tuner has ended; see dispatcher.log');
                connect.settled ? emitter.emit('error', gone) : connect.reject(gone);
            });
            return tuner;
        };
    },
    // 8. training_service/remote_v3/worker.js installs the newest NNI on the machine, and goes on
    // with another version; dcsnas has looked at the machine, and nothing is installed.
    // 9. what it starts there listens on every interface, as in 1, and shows killed trials as in 2.
    Worker({ Worker: { prototype } }) {
        const { launchTrialKeeperDaemon, start } = prototype;
        if (!launchTrialKeeperDaemon) {
            return false; // Node's own Worker
        }
        prototype.start = function (...args) {
            const { run } = this.ssh;
            this.ssh.run = (command) => command.endsWith('-m pip install nni --upgrade')
                ? Promise.resolve('') : run.call(this.ssh, command);
            return start.apply(this, args).then((result) => {
                const end = () => this.channel?.terminate('the SSH connection has ended');
                this.ssh.client.on('close', end);
                return result;
            });
        };
        prototype.launchTrialKeeperDaemon = async function (...args) {
            const { run } = this.ssh;
            const patches = await run.call(this.ssh, `${this.python} -P -m dcsnas.experiments.machine`);
            const options = `--require=${JSON.stringify(JSON.parse(patches).patches)}`;
            this.ssh.run = (command) => run.call(this.ssh, command.includes('launch_trial_keeper')
                ? `NODE_OPTIONS='${options.replaceAll("'", "'\\''")}' ${command}` : command);
            return launchTrialKeeperDaemon.apply(this, args);
        };
    },
    // 10. SSH connections of remote_v3/ssh.js: one that breaks ends the manager, for want of a
    // listener, and one that is cut is never noticed; nor is that of common/command_channel, which
    // therefore ends with it.
    Client({ Client: { prototype } }) {
        const { connect, forwardIn } = prototype;
        if (!forwardIn) {
            return false; // not ssh2's
        }
        prototype.connect = function (config) {
            this.on('error', (error) => console.error(`SSH ${config.host}: ${error.message}`));
            return connect.call(this, { ...config, keepaliveInterval: 5000 });
        };
    },
    // 11. training_service/v3/compat.js continues a trial on the machine that it ran on, and begins
    // another trial with its parameters where that machine is not there any more.
    V3asV1({ V3asV1: { prototype } }) {
        const { submitTrialJob } = prototype;
        prototype.submitTrialJob = async function (form) {
            await this.startDeferred.promise;
            const known = this.environments.some(({ id }) => id === form.envId);
            const elsewhere = form.id && form.envId && !known ? this.schedule() : null;
            return submitTrialJob.call(this, elsewhere ? { ...form, envId: elsewhere } : form);
        };
    },
    // 12. training_service/remote_v3/remote.js shows the trials of a machine that is lost as
    // cancelled by the user, also those that had ended.
    RemoteTrainingServiceV3({ RemoteTrainingServiceV3: { prototype } }) {
        const { onTrialEnd, stopWorker } = prototype;
        prototype.onTrialEnd = function (callback) {
            const ended = (this.endedTrials ??= new Set());
            onTrialEnd.call(this, (trial, time, code) => {
                ended.add(trial);
                return callback(trial, time, code);
            });
        };
        prototype.stopWorker = function (...args) {
            const { emitter, endedTrials } = this;
            const emit = (name, ...values) => {
                const [trial, time, code] = values;
                if (name !== 'trial_stop') {
                    emitter.emit(name, ...values);
                } else if (!endedTrials.has(trial)) {
                    emitter.emit(name, trial, time, code ?? 1);
                }
            };
            this.emitter = { emit };
            try {
                return stopWorker.apply(this, args);
            } finally {
                this.emitter = emitter;
            }
        };
    },
    // 13. The page asks Microsoft's servers for its icons and fonts: boxes in place of icons where
    // there is no network, and where there is one somebody else hears of the page. Fluent UI takes
    // the addresses from FabricConfig; all of its icon fonts are answered with ours.
    RestServer({ RestServer: { prototype } }) {
        const { start } = prototype;
        prototype.start = function () {
            const app = global.nni.rest.getExpressApp();
            const page = path.resolve('static', 'index.html');
            const settings = '{iconBaseUrl:"/dcsnas-icons/",fontBaseUrl:""}';
            const html = fs.readFileSync(page, 'utf8')
                .replace('<head>', `<head><script>window.FabricConfig=${settings}</script>`);
            app.get('/dcsnas-icons/:file', (_request, response) => {
                response.sendFile(path.join(__dirname, 'icons', 'icons.woff'));
            });
            app.get(/^\/(index\.html|oview|detail|experiment)?$/, (_request, response) => {
                response.type('html').send(html);
            });
            return start.call(this);
        };
    },
};

const done = new Set();
const load = Module._load;
Module._load = function (...args) {
    const exported = load.apply(this, args);
    for (const [name, patch] of Object.entries(patches)) {
        const found = exported && typeof exported === 'object' && exported[name];
        if (typeof found === 'function' && !done.has(name)) {
            if (patch(exported) !== false) {
                done.add(name);
            }
        }
    }
    return exported;
};

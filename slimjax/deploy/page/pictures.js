// Pictures, as the network takes them.

// Returns what the network sees of a source: the middle of it, as ImageData.
export function middle(source, [height, width, channels], resize) {
  const [across, down] = [
    source.videoWidth ?? source.naturalWidth ?? source.width,
    source.videoHeight ?? source.naturalHeight ?? source.height,
  ];
  const scale = Math.min(across, down) / resize;
  const [cutAcross, cutDown] = [width * scale, height * scale];
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.imageSmoothingQuality = 'high';
  context.drawImage(
    source,
    (across - cutAcross) / 2, (down - cutDown) / 2, cutAcross, cutDown,
    0, 0, width, height,
  );
  const image = context.getImageData(0, 0, width, height);
  if (channels === 1) makeGrey(image.data);
  return image;
}

// The brightness that Pillow gives a colour (ITU-R 601), in integers.
function makeGrey(data) {
  for (let place = 0; place < data.length; place += 4) {
    const [red, green, blue] = data.subarray(place, place + 3);
    data.fill((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16, place, place + 3);
  }
}

// Returns normalised float32 [height, width, channels] of ImageData.
export function normalized({ data }, channels, { mean, std }) {
  const pixels = data.length / 4;
  const values = new Float32Array(pixels * channels);
  for (let pixel = 0; pixel < pixels; pixel += 1) {
    for (let channel = 0; channel < channels; channel += 1) {
      const value = data[4 * pixel + channel] / 255;
      values[pixel * channels + channel] = (value - mean[channel]) / std[channel];
    }
  }
  return values;
}

// Lets a pen draw white on a canvas, and says when it has.
export function drawable(canvas, drawn) {
  const context = canvas.getContext('2d', { willReadFrequently: true });
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) * canvas.width) / box.width,
      ((event.clientY - box.top) * canvas.height) / box.height,
    ];
  };
  const clear = () => {
    context.fillStyle = '#000000';
    context.fillRect(0, 0, canvas.width, canvas.height);
  };
  const line = (...points) => {
    context.strokeStyle = '#ffffff';
    context.lineWidth = canvas.width / 11;
    context.lineCap = context.lineJoin = 'round';
    context.beginPath();
    for (const point of points) context.lineTo(...point);
    context.stroke();
    drawn();
  };
  let last = null;
  canvas.addEventListener('pointerdown', (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    line(last, last);
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!last) return;
    line(last, (last = place(event)));
  });
  for (const end of ['pointerup', 'pointercancel']) {
    canvas.addEventListener(end, () => (last = null));
  }
  clear();
  return clear;
}
